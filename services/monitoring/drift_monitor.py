"""Drift: recent features of visitors against the reference in the champion's manifest.

The compared features are those of slates that the model answered. These are the model's own input,
in which busy visitors weigh more, as in the reference. A verdict needs enough different visitors,
since the slates of one visitor resemble each other.

Thresholds are those of Evidently and of credit scoring: a population stability index (PSI) of 0.1
is worth a look, 0.25 is another population.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field

from slipstream.contracts.bundle import Histogram
from slipstream.evaluation.drift import histogram, population_stability_index

Level = Literal["stable", "warning", "critical", "unknown"]


class Thresholds(BaseModel):
    """The PSI of a warning and of a critical drift, and the smallest sample for a verdict.

    A sample is different visitors for a feature, and slates for the mix of steps.
    """

    warning: float
    critical: float
    min_samples: int

    def level(self, psi: float, samples: int) -> Level:
        if samples < self.min_samples:
            return "unknown"
        return (
            "critical" if psi >= self.critical else "warning" if psi >= self.warning else "stable"
        )


class FeatureDriftFigures(BaseModel):
    """The drift of one feature.

    Bins are `edges[i] <= x < edges[i + 1]`, the outermost ones open, with their shares in training
    and lately.
    """

    feature: str
    psi: float | None = Field(description="null without a single recent value")
    level: Level
    slates: int
    visitors: int
    edges: list[float]
    reference: list[float]
    recent: list[float]


class MixDrift(BaseModel):
    """The shares of the answering steps, before and lately. It shows a rise of fallbacks."""

    psi: float | None
    level: Level
    before: dict[str, float]
    recent: dict[str, float]
    before_slates: int
    recent_slates: int


class DriftReport(BaseModel):
    """The drift against the reference of `model_version`.

    Without a model (null), `features` is empty and `reason` says why.
    """

    checked_at: int
    window_ms: int
    model_version: str | None
    reason: str = ""
    thresholds: Thresholds
    features: list[FeatureDriftFigures]
    answered_by: MixDrift


def feature_drift(
    reference: Mapping[str, Histogram],
    recent: Sequence[tuple[str, Mapping[str, float]]],
    thresholds: Thresholds,
) -> list[FeatureDriftFigures]:
    """The drift of each feature of the reference, the greatest first.

    `recent` are pairs of visitor and features, one for each slate.
    """
    drifts = [
        _feature_drift(
            name, shape, [(user_id, f[name]) for user_id, f in recent if name in f], thresholds
        )
        for name, shape in reference.items()
    ]
    return sorted(drifts, key=lambda drift: (-(drift.psi or 0.0), drift.feature))


def _feature_drift(
    name: str, shape: Histogram, recent: list[tuple[str, float]], thresholds: Thresholds
) -> FeatureDriftFigures:
    values = [value for _, value in recent]
    visitors = len({user_id for user_id, _ in recent})
    expected = np.asarray(shape.counts, np.int64)
    actual = histogram(np.asarray(values, np.float64), np.asarray(shape.edges, np.float64))
    psi = population_stability_index(expected, actual) if values else None
    return FeatureDriftFigures(
        feature=name,
        psi=psi,
        level=thresholds.level(psi or 0.0, visitors),
        slates=len(values),
        visitors=visitors,
        edges=shape.edges,
        reference=_shares(expected.tolist()),
        recent=_shares(actual.tolist()),
    )


def mix_drift(
    before: Mapping[str, int], recent: Mapping[str, int], thresholds: Thresholds
) -> MixDrift:
    """The drift of answering steps, from a period to the window after it."""
    steps = sorted(before.keys() | recent.keys())
    old, new = ([counts.get(step, 0) for step in steps] for counts in (before, recent))
    samples = min(sum(old), sum(new))
    psi = (
        population_stability_index(np.asarray(old, np.int64), np.asarray(new, np.int64))
        if samples
        else None
    )
    return MixDrift(
        psi=psi,
        level=thresholds.level(psi or 0.0, samples),
        before=dict(zip(steps, _shares(old), strict=True)),
        recent=dict(zip(steps, _shares(new), strict=True)),
        before_slates=sum(old),
        recent_slates=sum(new),
    )


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts) or 1
    return [count / total for count in counts]
