"""`slipstream bench`."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from slipstream_cli.__main__ import cli


def test_bench_says_which_real_servers_are_absent_and_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("KAFKA_HOME", raising=False)
    answer = CliRunner().invoke(cli, ["bench", "ingestion", "--servers", "real"])
    assert answer.exit_code == 1
    assert "Apache Kafka: unpack a binary from kafka.apache.org/downloads" in answer.output
    assert "Redis: Debian, Ubuntu: apt-get install redis-server" in answer.output
    assert "PostgreSQL" not in answer.output, "no SQL takes part in it"


def test_bench_says_that_chromium_is_absent_before_a_stack_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    answer = CliRunner().invoke(cli, ["bench", "shop"])
    assert answer.exit_code == 1
    assert "no Chromium; Debian, Ubuntu: apt install chromium" in answer.output


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["ingestion", "--rate", "300"], "are of the benchmark of serving"),
        (["freshness", "--swaps", "2"], "are of the benchmark of serving"),
        (["shop", "--profile", "best"], "of the benchmarks of serving and training"),
        (["ingestion", "--data", "."], "are of the benchmarks of serving and replay"),
        (["features", "--traced"], "a temporary stack of ingestion or serving"),
        (["serving", "--running", "--traced"], "a temporary stack of ingestion or serving"),
        (["serving", "--running", "--profile", "best"], "a running stack has its model and its"),
    ],
)
def test_options_of_serving_are_refused_where_they_say_nothing(
    arguments: list[str], reason: str
) -> None:
    answer = CliRunner().invoke(cli, ["bench", *arguments])
    assert answer.exit_code == 2
    assert reason in answer.output
