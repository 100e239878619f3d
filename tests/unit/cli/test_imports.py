"""What an import finds of its events in the lake, and names as the next step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.positions import Source
from slipstream.datasets.imports.conversion import RejectedRows
from slipstream.datasets.imports.sending import ReplayReport
from slipstream.datasets.imports.surveys import Survey
from slipstream.stores.lake import INTERACTIONS, Lake
from slipstream_cli import imports
from slipstream_cli.imports import show_outcome
from tests import first_day
from tests.unit.cli.rest_answers import Answers, problem
from tests.unit.stores.lake_rows import rows

RUNNING = {"training": "http://training", "features": "http://features"}
Next = Callable[..., list[str]]
AT = 1_790_000_000_000


# Questions that Enter answers, of those kinds that have any.
ASKED = {"german-log": 1, "nested-orders": 1, "shopify-api": 2, "shopify-orders": 2,
         "shopify-products": 1, "woocommerce-api": 2}  # fmt: skip


@pytest.mark.parametrize("at_terminal", [False, True], ids=["options", "terminal"])
@pytest.mark.parametrize("kind", first_day.KINDS)
def test_exports_of_shops_arrive_as_they_are_meant(kind: str, at_terminal: bool) -> None:
    found = first_day.outcome(kind, at_terminal=at_terminal)
    assert (found.damaged, found.asked) == (0, ASKED.get(kind, 0)), found.output
    assert found.right > 0 and found.by_enter == (found.asked if at_terminal else 0)


@pytest.fixture
def exports(tmp_path: Path) -> list[Any]:
    lake = Lake(LakeSettings(uri=str(tmp_path / "lake")), "slipstream")
    source = Source("interactions.v1", "topic-1", 3)
    lake.append(INTERACTIONS, rows("old", timestamp=AT), {source: 1})
    lake.append(INTERACTIONS, rows("other", timestamp=AT + 9_000), {source: 2})
    return [(None, Survey(first=AT, last=AT + 5)), (None, Survey())]


def test_events_in_the_lake_are_found_by_their_time(
    tmp_path: Path, exports: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert imports.events_in_lake(exports, {"redis": ""}, tmp_path) == {hash("old")}
    monkeypatch.setattr(imports, "MOST_ROWS", 0)
    assert imports.events_in_lake(exports, {"redis": ""}, tmp_path) is None


def test_a_stack_elsewhere_has_a_lake_elsewhere(
    tmp_path: Path, exports: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLIPSTREAM_LAKE__URI", raising=False)
    assert imports.events_in_lake(exports, {}, tmp_path) is None
    monkeypatch.setenv("SLIPSTREAM_LAKE__URI", str(tmp_path / "lake"))
    assert imports.events_in_lake(exports, {}, tmp_path) == {hash("old")}


@pytest.fixture
def steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Next:
    """The next steps that are shown for a report, without the data folder."""

    def shown(report: ReplayReport, running: dict[str, str] = RUNNING) -> list[str]:
        with RejectedRows(tmp_path / "rejected.csv") as rejected:
            show_outcome(report, rejected, running, tmp_path)
        _, marker, text = capsys.readouterr().out.partition("Next:")
        lines = [line.strip() for line in text.splitlines()] if marker else []
        return [line.replace(f" --data-dir {tmp_path}", " …") for line in lines]

    return shown


def test_first_run_is_started_where_nothing_was_trained(answers: Answers, steps: Next) -> None:
    answers.by_request |= {
        "GET /v1/runs": {"items": [{"state": "failed"}]},
        "GET /v1/aliases/champion": problem(404, "no model"),
    }
    assert steps(ReplayReport(accepted=5)) == ["slipstream runs start --follow …"]
    # The same file again leaves as much to do.
    assert steps(ReplayReport(duplicates=5)) == ["slipstream runs start --follow …"]
    assert steps(ReplayReport()) == []
    assert steps(ReplayReport(accepted=5), {}) == ["slipstream runs start --follow"]


def test_run_that_goes_on_is_followed(answers: Answers, steps: Next) -> None:
    answers.by_request["GET /v1/runs"] = {"items": [{"state": "queued"}, {"state": "failed"}]}
    assert steps(ReplayReport(items=5)) == ["slipstream runs follow …"]


def test_with_a_model_there_is_a_look_at_what_came(answers: Answers, steps: Next) -> None:
    answers.by_request |= {"GET /v1/runs": {"items": []}, "GET /v1/aliases/champion": {}}
    assert steps(ReplayReport(accepted=5, rejected=1)) == [
        "slipstream dead-letters list --since 10m …",
        "slipstream doctor …",
        "curl http://features/v1/status shows how many events features has applied",
    ]
