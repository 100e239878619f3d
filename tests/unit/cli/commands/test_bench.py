"""`slipstream bench` where there is no checkout. The benchmarks' tests are in tests/unit/bench."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bench.command import bench
from slipstream_cli.commands.bench import bench_command


def test_a_checkout_has_the_benchmarks() -> None:
    assert bench_command() is bench


@pytest.mark.parametrize("arguments", [[], ["serving", "--rate", "300"], ["--help"]])
def test_an_installed_package_says_how_to_get_the_benchmarks(
    arguments: list[str], tmp_path: Path
) -> None:
    cli = click.Group(commands=[bench_command(tmp_path)])
    assert "bench  Compare a part's speed" in CliRunner().invoke(cli, ["--help"]).output
    answer = CliRunner().invoke(cli, ["bench", *arguments])
    assert answer.exit_code == 1
    assert "Clone the repository, and run in it:\n  make install\n" in answer.output
    assert f".venv/bin/slipstream bench {' '.join(arguments)}" in answer.output
