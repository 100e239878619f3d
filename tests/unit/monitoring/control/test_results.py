"""Results from sums: metrics and shares."""

from typing import Any

import numpy as np
import pytest

from services.monitoring.answers import Latencies
from services.monitoring.control.guards import Makers
from services.monitoring.control.results import (
    METRICS,
    Division,
    VariantSums,
    alpha_of,
    chosen_metrics,
    expected_shares,
    shown_variants,
    variant_results,
)
from slipstream.contracts.experiments import GUARDRAIL_METRICS, ExperimentDesign
from slipstream.evaluation.experiments.moments import Moments

TWO = [{"name": "a"}, {"name": "b"}]


def design(**changes: Any) -> ExperimentDesign:
    return ExperimentDesign.model_validate({"placements": ["home"], "variants": TWO} | changes)


def sums(seed: int, n: int, lift: float = 1.0, empty: float = 0.01, value: int = 0) -> VariantSums:
    """The sums of `n` visitors with clicks, empty lists, latencies and purchases."""
    random = np.random.default_rng(seed)
    slates = random.geometric(0.4, n)
    columns = {
        "slates": slates,
        "clicked_slates": random.binomial(slates, np.minimum(random.beta(1, 6, n) * lift, 1)),
        "converted_slates": random.binomial(slates, 0.05),
        "empty": random.binomial(slates, empty),
        "revenue": random.binomial(slates, 0.05) * value,
        "timed": slates * (value > 0),
        "latency": random.gamma(40 * slates, 1.0) * (value > 0),
    }
    moments = {}
    for name, metric in METRICS.items():
        a = np.asarray(columns.get(metric.numerator, np.zeros(n)), float)
        b = np.asarray(columns[metric.denominator] if metric.denominator else np.ones(n), float)
        found = {"a": a, "b": b, "aa": a * a, "ab": a * b, "bb": b * b}
        totals = {field: float(each.sum()) for field, each in found.items()}
        moments[name] = Moments.of({"visitors": n, "hits": int((a > 0).sum()), **totals})
    return VariantSums(n, int(slates.sum()), moments)


def test_every_metric_of_the_contract_is_one_of_results() -> None:
    assert set(METRICS) == set(GUARDRAIL_METRICS)
    guarded = design(metric="revenue_per_visitor", guardrails=[{"metric": "latency"}])
    assert chosen_metrics(guarded) == [
        "revenue_per_visitor",
        "click_through",
        "conversion",
        "latency",
    ]
    assert chosen_metrics(design(metric="of_a_newer_one")) == ["click_through", "conversion"]


def test_visitors_divide_by_weight_and_traffic() -> None:
    weighted = design(traffic=0.8, variants=[{"name": "a"}, {"name": "b", "weight": 3}])
    assert expected_shares(weighted) == pytest.approx({"a": 0.2, "b": 0.6, "holdout": 0.2})
    assert expected_shares(design()) == {"a": 0.5, "b": 0.5}
    assert expected_shares(design(kind="shadow")) == {"a": 1.0}
    assert shown_variants(design(kind="shadow")) == ["a", "holdout"]
    three = design(variants=[*TWO, {"name": "c"}])
    assert (alpha_of(design()), alpha_of(three)) == (0.05, 0.025)
    assert alpha_of(design(kind="shadow")) == 0.05


def test_each_variant_is_compared_with_the_control() -> None:
    three = design(variants=[*TWO, {"name": "c"}], traffic=0.9)
    found = {name: sums(at, 3_000) for at, name in enumerate("abc")}
    division = Division({"a": 3_000, "b": 3_000, "c": 3_000}, 0, excluded=False)
    results = variant_results(
        three, found, {"b": Makers({"9": 4}, {}, Latencies.of([2.0]))}, division
    )
    assert [it.variant for it in results] == ["a", "b", "c", "holdout"]
    control, other, _, holdout = (it.metrics["click_through"] for it in results)
    assert control.difference is None and control.value.low is not None
    assert other.relative is not None and other.relative.low is not None
    assert other.relative.high is not None and other.relative.low < 0 < other.relative.high
    assert holdout.value.value is None and holdout.difference is not None
    assert results[1].models == {"9": 4}
