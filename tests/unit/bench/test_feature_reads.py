"""Requests of the benchmark of feature reads, and the installation of Feast."""

from pathlib import Path

import pytest

from bench import feature_reads
from bench.feature_reads import FeastUnavailableError
from services.features.reads.feast import Planner, rows_of
from slipstream.features.views import declare


def test_requested_features_are_declared() -> None:
    planner = Planner(declare())
    whole, halves = feature_reads._bodies()
    for body in (whole[0], *halves[:2]):
        plan = planner.of(tuple(body["features"]), full_names=True)
        rows = rows_of(body["entities"], plan)
        assert len(plan.columns) == len(body["features"])
        assert {len(ids) for ids in rows.values()} <= {1, feature_reads.ITEMS_ASKED}
    assert whole[0]["features"] == halves[0]["features"] + halves[1]["features"]


def test_feast_that_can_not_be_installed_is_said_to_be_unavailable() -> None:
    with pytest.raises(FeastUnavailableError, match="feast failed"):
        feature_reads._call(["/nowhere/pip"], None, "feast")


def test_feast_is_called_from_other_folders_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("feast").mkdir()
    Path("feast", f"feast-{feature_reads.FEAST_RELEASE}.installed").touch()
    assert (
        feature_reads.installed_feast(Path("feast"), print) == tmp_path / "feast" / "bin" / "python"
    )
