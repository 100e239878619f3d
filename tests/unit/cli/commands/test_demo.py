"""`slipstream demo`."""

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from slipstream_cli.__main__ import cli
from slipstream_cli.commands import demo as demo_command
from slipstream_cli.commands import up as up_command
from slipstream_cli.local.plan import DATA_DIR


def test_the_demo_keeps_its_data_apart_from_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    folders: list[Path] = []

    def plan_of(directory: Path, *_: object) -> None:
        folders.append(directory)
        sys.exit(0)

    for module in (demo_command, up_command):
        monkeypatch.setattr(module, "plan_of", plan_of)
    for environment in ({DATA_DIR: None}, {DATA_DIR: "/data"}):
        for command in ("up", "demo", "demo --catalogue garments"):
            CliRunner().invoke(cli, command.split(), env=environment)
    CliRunner().invoke(cli, ["demo", "--catalogue", "garments", "--data-dir", "/mine"])
    assert folders == [
        Path(".slipstream"),
        Path(".slipstream/demo"),
        Path(".slipstream/demo-garments"),
        Path("/data"),
        Path("/data/demo"),
        Path("/data/demo-garments"),
        Path("/mine"),
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--shoppers 5 --exit", "leave out --exit"),
        ("--catalogue garments --movielens .", "does not go with --catalogue garments"),
        ("--catalogue shoes", "'movielens', 'garments'"),
        ("--shoppers 0", "1<=x<=500"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: str, said: str) -> None:
    result = CliRunner().invoke(cli, ["demo", *options.split()])
    assert result.exit_code == 2 and said in result.output
