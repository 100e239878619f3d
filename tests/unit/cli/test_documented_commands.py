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
    "docs/performance.md", "docs/placements.md", "docs/experiments.md",
    "docs/replay.md", "docs/import.md", "docs/your-first-hour.md", "docs/doctor.md",
    "docs/what-to-send.md", "docs/models.md", "docs/upgrading.md", "docs/scaling.md",
    "docs/simulator.md",
]  # fmt: skip
RUNBOOK = [
    str(page.relative_to(ROOT))
    for page in sorted((ROOT / "docs/runbook").glob("*.md"))
    if "slipstream " in page.read_text(encoding="utf-8")
]
# In backticks, perhaps behind `docker compose exec training`; or a line of a code block.
_IN_BACKTICKS = re.compile(r"`(?:[^`\n]*\s)?((?:slipstream|…) (?!\()[a-z][^`\n]*)`")
# The first cell of a row of README's table of commands.
_COMMAND_ROW = re.compile(r"^\| (`slipstream [^|]*(?:\\\|[^|]*)*) \| ", re.MULTILINE)
_IN_BLOCK = re.compile(r"^(?: {4}|\$ )(?:\.venv/bin/)?(slipstream .*)$", re.MULTILINE)


def shown_commands(page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [*_IN_BACKTICKS.findall(text), *_IN_BLOCK.findall(text)]


@pytest.mark.parametrize("page", [*PAGES, *RUNBOOK])
def test_page_shows_commands_with_options_that_they_have(page: str) -> None:
    shown = shown_commands(page)
    assert shown or page in RUNBOOK
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


def test_readme_s_table_has_every_command_and_all_that_a_group_has() -> None:
    rows = _COMMAND_ROW.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    listed: dict[str, set[str]] = {}
    for row in rows:
        first, *others = (shlex.split(shown.replace("\\|", "|")) for shown in row.split("`")[1::2])
        command = cli.commands[first[1]]
        if isinstance(command, click.Group):
            listed[first[1]] = {first[2], *(other[0] for other in others)}
        else:
            # A benchmark's parts are the values of its argument.
            listed[first[1]] = set(first[2].split("|")) if first[1] == "bench" else set()
            listed |= {other[0]: set() for other in others}
    shown = {name for name, command in cli.commands.items() if not command.hidden}
    assert set(listed) == shown
    for name in shown:
        command = cli.commands[name]
        if isinstance(command, click.Group):
            assert listed[name] == set(command.commands), name
        elif name == "bench":
            (part,) = (p for p in command.params if isinstance(p, click.Argument))
            assert isinstance(part.type, click.Choice)
            assert listed[name] == set(part.type.choices)


def test_runbook_commands_are_seen_by_these_tests() -> None:
    assert sum(len(shown_commands(page)) for page in RUNBOOK) > 15
