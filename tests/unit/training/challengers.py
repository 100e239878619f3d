"""Bundles without a model, and results of their runs, for tests in which the gate decides."""

from pathlib import Path
from typing import Any

from services.training.gate import Comparison, Measurements
from services.training.run.job import TrainingResult
from slipstream.contracts.bundle import DataSummary, Manifest
from slipstream.evaluation.significance import Interval


def bundle(folder: Path, version: str, **described: Any) -> Path:
    """A folder with a manifest alone, of fields as described."""
    directory = folder / f"run-{version}"
    directory.mkdir()
    usual = {"created_at": 1_700_000_000_000, "profile": "fast"}
    manifest = Manifest(
        version=version, data=DataSummary(visitors=2, items=2, events=9), **usual | described
    )
    (directory / "manifest.json").write_text(manifest.model_dump_json(by_alias=True))
    return directory


def result_of(
    popularity: float, champion: float | None = None, version: str | None = None
) -> TrainingResult:
    """A run with a challenger that beats (or loses to) the two beyond doubt.

    `version` is that of the champion.
    """

    def compared(difference: float) -> Comparison:
        return Comparison(
            100, 0.1 + difference, 0.1, Interval(difference, difference - 0.001, difference + 0.001)
        )

    return TrainingResult(
        lake_version=3,
        catalog_version=None,
        data_sha256="ab" * 32,
        code_commit=None,
        metrics={"ndcg@10": 0.1},
        parameters={},
        measured=Measurements(
            compared(popularity),
            2.0,
            1_000,
            champion=None if champion is None else compared(champion),
        ),
        champion_version=version,
        environment={"numpy": "2.0"},
        seconds={"judging": 1.0},
        peak_memory_mb=1.0,
    )
