import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner

from slipstream.chassis.logging import get_logger
from slipstream.contracts.services import SERVICES
from slipstream.evaluation.findings import Finding, Weight
from slipstream_cli.__main__ import cli
from slipstream_cli.doctor import examination
from tests.unit.cli.rest_answers import Answers, problem

NOTE = Finding("heavy_visitor", Weight.NOTE, "a figure", "a reason", "a command")
WARNING = Finding("no_purchases", Weight.WARNING, "no purchase", "why", "slipstream import")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """The command has this process log to standard error."""
    configured = structlog.get_config()
    yield
    structlog.configure(**configured)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> examination.Examination:
    """What the command finds, to be filled by the test."""
    made = examination.Examination(looked_at={"events": "9 of 9"})
    monkeypatch.setattr(examination, "places_of", lambda data_dir: data_dir)
    monkeypatch.setattr(examination, "examine", lambda *_: made)
    return made


def test_findings_are_shown_and_the_heaviest_is_the_exit_status(
    found: examination.Examination, tmp_path: Path
) -> None:
    result = CliRunner().invoke(cli, ["doctor"])
    assert (result.exit_code, "No problems found." in result.output) == (0, True)
    found.findings += [WARNING, NOTE]
    result = CliRunner().invoke(cli, ["doctor", "--data-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert result.output.startswith("Checked: 9 of 9 events.\n\nwarning   no purchase\n")
    assert "          → a command\n" in result.output
    assert f"Add --data-dir {tmp_path} to these commands." in result.output
    assert '"weight": "warning"' in CliRunner().invoke(cli, ["doctor", "--json"]).output


def test_lines_of_services_are_not_among_the_results(
    found: examination.Examination, monkeypatch: pytest.MonkeyPatch
) -> None:
    structlog.reset_defaults()  # of whatever other tests have configured

    def examine(*_: object) -> examination.Examination:
        get_logger("probes").info("features told no status")
        return found

    monkeypatch.setattr(examination, "examine", examine)
    result = CliRunner().invoke(cli, ["doctor", "--json"])
    assert json.loads(result.stdout) == {"looked_at": {"events": "9 of 9"}, "findings": []}
    assert "told no status" in result.stderr


def test_no_stack_is_as_bad_as_one_that_is_away(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["doctor", "--data-dir", str(tmp_path)])
    assert result.exit_code == 2
    assert f"no stack runs on {tmp_path}" in result.output and "--url" not in result.output


def test_a_stack_that_wants_a_token_says_which_setting_has_it(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere: Any = dict.fromkeys(SERVICES, "http://stack")
    monkeypatch.setattr(examination, "places_of", lambda _: examination.Places(None, nowhere))  # type: ignore[arg-type]
    answers.by_request["GET /v1/services"] = problem(401, "a token is needed")
    result = CliRunner().invoke(cli, ["doctor"])
    assert result.exit_code == 2
    assert result.output.endswith(
        "Error: http://stack wants a token: set SLIPSTREAM_HTTP__API_TOKEN\n"
    )
