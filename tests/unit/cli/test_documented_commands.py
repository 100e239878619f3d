"""Commands in the documentation exist, with the options that they are shown with."""

import re
import shlex
from pathlib import Path

import click
import pytest

from slipstream_cli.__main__ import cli

ROOT = Path(__file__).parents[3]
PAGES = [
    "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "deploy/README.md",
    "docs/runbook.md", "docs/performance.md", "docs/placements.md", "docs/experiments.md",
    "docs/replay.md", "docs/import.md", "docs/your-first-hour.md", "docs/doctor.md",
    "docs/what-to-send.md",
]  # fmt: skip
# In backticks, perhaps behind `docker compose exec training`; or a line of a code block.
_IN_BACKTICKS = re.compile(r"`(?:[^`\n]*\s)?((?:slipstream|…) (?!\()[a-z][^`\n]*)`")
_IN_BLOCK = re.compile(r"^(?: {4}|\$ )(?:\.venv/bin/)?(slipstream .*)$", re.MULTILINE)


def shown_commands(page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [*_IN_BACKTICKS.findall(text), *_IN_BLOCK.findall(text)]


@pytest.mark.parametrize("page", PAGES)
def test_page_shows_commands_with_options_that_they_have(page: str) -> None:
    shown = shown_commands(page)
    assert shown
    for line in shown:
        _, *words = shlex.split(line, comments=True)
        command: click.Command = cli
        while isinstance(command, click.Group) and words:
            name = words.pop(0)
            assert name in command.commands, line
            command = command.commands[name]
        known = {flag for parameter in command.params for flag in parameter.opts}
        known |= {flag for parameter in command.params for flag in parameter.secondary_opts}
        assert {word for word in words if word.startswith("--")} <= known, line


def test_runbook_commands_are_seen_by_these_tests() -> None:
    assert len(shown_commands("docs/runbook.md")) > 15
