"""The commands of `docs/what-to-send.md`, run on a smaller shop."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner

from slipstream_cli.__main__ import cli
from tests.console_pages import differences, steps

PAGE = Path(__file__).parents[3] / "docs" / "what-to-send.md"
# So few events train no network, which is what takes the time.
SMALL = {"visitors 500": "visitors 80", "items 150": "items 40", "events 8000": "events 700"}
# A row of a table of figures: `view`, `purchase`, and so on, then numbers.
_LEFT_OUT = re.compile(r"^\| [^|]*`([a-z:+-]+)` \| [−+]?\.\d", re.MULTILINE)


def _smaller(command: str) -> list[str]:
    for theirs, ours in SMALL.items():
        command = command.replace(f"--{theirs} ", f"--{ours} ")
    return shlex.split(command)


def test_every_command_of_the_page_prints_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = list(steps(PAGE))
    assert len(run) == 2
    assert all(f"--{size} " in run[0].command for size in SMALL)
    for step in run:
        program, *words = _smaller(step.command)
        assert program == "slipstream"
        answer = CliRunner().invoke(cli, words)
        assert answer.exit_code == 0, answer.output
        assert differences(step.shown, answer.output.splitlines()) == []


def test_every_part_of_the_page_is_one_that_its_command_leaves_out() -> None:
    command = next(step.command for step in steps(PAGE) if " evaluate " in step.command)
    words = shlex.split(command)
    left_out = {word for before, word in pairwise(words) if before == "--without"}
    told = _LEFT_OUT.findall(PAGE.read_text())
    assert len(told) >= 8
    assert set(told) == left_out
