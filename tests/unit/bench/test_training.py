"""The benchmark of fits, on a small shop."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from bench import training
from slipstream_cli.__main__ import cli


def test_a_fit_has_its_seconds_and_the_network_its_share_of_a_matrix_product(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "in_own_process", lambda function, *given: function(*given))
    monkeypatch.setattr(training, "_PRODUCT", 256)
    fit, step, arithmetic = training.run(tmp_path, [3_000], [200])
    assert fit["name"].startswith("fast, 3,000 events")
    assert fit["value"] > 0
    assert "MB at most; NDCG@10 0." in fit["note"]
    assert "blend" in fit["note"]
    assert step["value"] > 0
    assert 0 < arithmetic["ratio"] < 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["training", "--servers", "real"], "training has no servers"),
        (["catalogue", "--running"], "catalogue has no servers"),
        (["serving", "--events", "10000"], "--events of training"),
        (["serving", "--items", "1000"], "--items is of the benchmarks catalogue and training"),
        (["freshness", "--profile", "best"], "--profile is of the benchmarks of serving and"),
    ],
)
def test_options_of_another_benchmark_are_refused(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(cli, ["bench", *arguments])
    assert result.exit_code == 2
    assert message in result.output
