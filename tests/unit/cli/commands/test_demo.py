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
        for command in ("up", "demo"):
            CliRunner().invoke(cli, [command], env=environment)
    assert folders == [
        Path(".slipstream"),
        Path(".slipstream/demo"),
        Path("/data"),
        Path("/data/demo"),
    ]
