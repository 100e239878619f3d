"""The whole command line: its help, and its errors for wrong arguments."""

import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from slipstream.contracts.services import SERVICES
from slipstream_cli.__main__ import cli


def commands(command: click.Command, *path: str) -> Iterator[tuple[str, click.Command]]:
    """The command and all below it, each with its words."""
    yield " ".join(path), command
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from commands(child, *path, name)


# All but the root: its help lists first steps.
COMMANDS = dict(commands(cli))
ROOT = COMMANDS.pop("")


def examples(name: str) -> list[str]:
    """The command lines in the example of a command's help, without settings before them."""
    text = inspect.cleandoc(COMMANDS[name].help or "").partition("Example:")[2]
    joined = text.partition("Port:")[0].replace("\\\n", " ")
    return re.findall(r"(?:^|\s)(slipstream .*)", joined)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_that_the_command_takes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = CliRunner().invoke(cli, [*name.split(), "--help"])
    assert answer.exit_code == 0
    assert "Example:" in answer.output
    lines = examples(name)
    assert lines and all(line.startswith(f"slipstream {name}") for line in lines)
    for line in lines:
        _, *words = shlex.split(line.partition(" | ")[0])
        command: click.Command = ROOT
        while isinstance(command, click.Group):
            command = command.commands[words.pop(0)]
        for parameter in command.params:
            if isinstance(parameter.type, click.Path):  # the example's files need not exist
                monkeypatch.setattr(parameter, "type", click.STRING)
        command.make_context(name, words)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_help_text(name: str) -> None:
    options = [
        parameter for parameter in COMMANDS[name].params if isinstance(parameter, click.Option)
    ]
    assert [option.name for option in options if not (option.help or "").strip()] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_holds_without_it(name: str) -> None:
    for option in COMMANDS[name].params:
        if isinstance(option, click.Option) and not (option.required or option.is_flag):
            assert option.show_default or "Default: " in (option.help or ""), option.name


def test_each_service_has_a_command() -> None:
    assert set(SERVICES) <= set(COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["replay"], "Missing argument 'FILE'"),
        (["evaluate", "missing.csv", "--protocol", "next-click"], "'missing.csv' does not exist"),
        (["evaluate", __file__, "--protocol", "guess"], "'guess' is not one of"),
        (
            ["evaluate", __file__, "--protocol", "next-click", "--k", "ten"],
            "'ten' is not a list of whole numbers",
        ),
        (
            ["simulate", "shop", "--visitors", "0", "--items", "1", "--events", "1"],
            "0 is not in the range x>=1",
        ),
        (["simulate", "shop", "--visitors", "5"], "Missing option '--items'"),
        (["bench", "everything"], "'everything' is not one of"),
        (["bench", "features", "--running"], "features is measured on separate servers"),
        (
            ["bench", "ingestion", "--running", "--servers", "real"],
            "a running stack has its servers already",
        ),
        (["up", "--port", "serving"], "'serving': expected NAME=PORT"),
        (["unknown"], "No such command 'unknown'"),
    ],
)
def test_bad_arguments_get_one_clear_line_and_status_2(
    arguments: list[str], complaint: str
) -> None:
    answer = CliRunner().invoke(cli, arguments)
    assert answer.exit_code == 2
    assert complaint in answer.output
    assert "Traceback" not in answer.output


def test_the_command_of_one_service_loads_nothing_of_another() -> None:
    code = """
import sys, importlib
import slipstream_cli.__main__
importlib.import_module("services.ingestion.app")
importlib.import_module("services.ingestion.settings")
print({"mlflow", "sklearn", "deltalake", "sqlalchemy", "scipy"} & set(sys.modules))
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout.strip() == "set()"
