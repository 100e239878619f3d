"""Commands report a wrong setting in one line, with the name of its variable."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from slipstream_cli.__main__ import cli


@pytest.mark.parametrize(
    "command", [("runs", "list"), ("dead-letters", "list"), ("backup", "new"), ("backfill",)]
)
def test_the_variable_is_named(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(cli, command, env={"SLIPSTREAM_HTTP__PORT": "many"})
    assert ended.exit_code == 1, ended.output
    (line,) = ended.output.splitlines()
    assert line.startswith("Error: settings: SLIPSTREAM_HTTP__PORT: ")
