"""The manifest's results: one JSON object, typed where the project reads it."""

import json
from typing import Any

from slipstream.contracts.bundle import Manifest

METRICS: dict[str, Any] = {
    "ndcg@10": 0.12,
    "cohort/new/queries": 25.0,
    "intervals": {"ndcg@10": [0.11, 0.13]},
    "validation": {
        "ndcg@10": 0.13,
        "ablation": {"alone": {"rules": 0.1}, "blend": 0.12, "without": {"rules": 0.02}},
        "importance": {"item age": -0.001},
    },
    "curve": {"kept": 1, "loss": [5.0, 4.0], "quality": [0.2, 0.1]},
    "search": [
        {
            "number": 0,
            "state": "diverged",
            "quality": None,
            "epochs": 0,
            "seconds": 1.5,
            "parameters": {"dim": 64, "dropout": 0.3},
        }
    ],
}


def manifest(metrics: dict[str, Any]) -> Manifest:
    data = {"visitors": 1, "items": 2, "events": 3}
    whole = {"version": "v", "created_at": 1, "profile": "fast", "data": data, "metrics": metrics}
    return Manifest.model_validate_json(json.dumps(whole))


def test_results_are_sections_and_figures_and_stay_one_object() -> None:
    metrics = manifest(METRICS).metrics
    assert metrics.figures == {"ndcg@10": 0.12, "cohort/new/queries": 25.0}
    assert metrics.intervals == {"ndcg@10": (0.11, 0.13)}
    assert metrics.validation is not None and metrics.validation.figures == {"ndcg@10": 0.13}
    assert metrics.validation.ablation is not None
    assert metrics.validation.ablation.without == {"rules": 0.02}
    assert metrics.curve is not None and metrics.curve.kept == 1
    assert metrics.search is not None and metrics.search[0].parameters["dim"] == 64
    assert json.loads(manifest(METRICS).model_dump_json())["metrics"] == METRICS
