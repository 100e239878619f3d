"""`slipstream simulate`."""

import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from slipstream_cli.__main__ import cli


def test_simulate_writes_a_shop_and_names_commands_that_take_it(tmp_path: Path) -> None:
    sizes = ["--visitors", "50", "--items", "20", "--events", "300", "--days", "7"]
    answer = CliRunner().invoke(cli, ["simulate", str(tmp_path / "shop"), *sizes])
    assert answer.exit_code == 0, answer.output
    assert "300 of 300 events" in answer.stderr
    counts = [int(line.split()[1].replace(",", "")) for line in answer.stdout.splitlines()[:3]]
    assert sum(counts) == 300
    offered = [
        line.partition("slipstream ")[2].rpartition("slipstream ")
        for line in answer.stdout.splitlines()[-2:]
    ]
    commands = [shlex.split(last) for _, _, last in offered]
    assert [command[0] for command in commands] == ["evaluate", "replay"]
    for name in ("interactions", "items"):
        assert all(str(tmp_path / "shop" / f"{name}.parquet") in command for command in commands)
    again = CliRunner().invoke(cli, ["simulate", str(tmp_path / "shop"), *sizes])
    assert again.exit_code == 1 and "interactions.parquet is there already" in again.output


@pytest.mark.parametrize("events", ["40", "20000"])
def test_simulate_says_which_numbers_do_not_fit(tmp_path: Path, events: str) -> None:
    sizes = ["--visitors", "50", "--items", "20", "--events", events, "--days", "7"]
    answer = CliRunner().invoke(cli, ["simulate", str(tmp_path / "shop"), *sizes])
    assert answer.exit_code == 1
    assert answer.output.startswith("Error: ") and "for 50 visitors" in answer.output
    assert not (tmp_path / "shop").exists()
