"""The command line of the long fault test."""

import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tests.faults.__main__ import limited, main


@pytest.mark.parametrize("option", [["--kill", "broker"], ["--kill", "all"], ["--brokers", "3"]])
def test_the_embedded_broker_is_not_killed_since_it_forgets(option: list[str]) -> None:
    answer = CliRunner().invoke(main, ["--servers", "embedded", *option])
    assert answer.exit_code == 2
    assert "killed, it forgets what it acknowledged; take --servers real" in answer.output


def test_real_servers_that_are_absent_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    answer = CliRunner().invoke(main, ["--servers", "real"])
    assert answer.exit_code == 1
    assert "Redis: Debian, Ubuntu: apt-get install redis-server" in answer.output


def test_what_takes_too_long_is_ended() -> None:
    with pytest.raises(click.ClickException, match="not done after 0 s"), limited(0.01):
        time.sleep(30)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--servers", "embedded", "--redis", "sentinel"], "embedded servers have one Redis"),
        (["--servers", "embedded", "--partitions", "48"], "the partitions that are declared"),
        (["--trouble", "cut-log", "--redis", "sentinel"], "for --redis single or cluster"),
        (["--trouble", "cut-node"], "for --redis cluster"),
        (["--trouble", "disks", "--lake", "s3"], "about a lake in a folder"),
    ],
)
def test_servers_are_refused_where_they_can_be_none(options: list[str], said: str) -> None:
    answer = CliRunner().invoke(main, options)
    assert answer.exit_code == 2
    assert said in answer.output
