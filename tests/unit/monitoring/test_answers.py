"""Sketches of latency: exact in number and sums, within two in a hundred for any share."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.monitoring.answers import (
    EXPERIMENT_STEP_MS,
    FIRST_VISIT,
    MINUTE_MS,
    Answer,
    AnswerKey,
    Latencies,
)
from slipstream.contracts.events import Slate, SlateItem
from tests.unit.monitoring.builders import T0, recorded

latencies = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=60)


@given(latencies, st.floats(0.01, 1))
def test_a_quantile_is_never_too_low_and_at_most_two_in_a_hundred_too_high(
    values: list[float], share: float
) -> None:
    true = float(np.quantile(values, share, method="inverted_cdf"))
    found = Latencies.of(values).quantile(share)
    assert true * (1 - 1e-9) <= found <= true * 1.02 * (1 + 1e-9)


@given(latencies, st.floats(0.01, 1e6))
def test_no_more_are_slower_than_are_in_fact(values: list[float], bound: float) -> None:
    found = Latencies.of(values).slower(bound)
    assert sum(each > bound * 1.021 for each in values) <= found
    assert found <= sum(each >= bound * (1 - 1e-9) for each in values)


@given(latencies, latencies)
def test_sketches_add_up_packed_or_not(one: list[float], other: list[float]) -> None:
    whole, parts = Latencies.of(one + other), [Latencies.of(one), Latencies.of(other)]
    packed = b"".join(each.packed() for each in parts)
    parts[0].merge(parts[1])
    assert (parts[0].count, parts[0].bins) == (whole.count, whole.bins)
    assert parts[0].total == pytest.approx(whole.total)
    assert Latencies.unpacked(whole.count, whole.total, whole.squares, packed) == whole


def test_what_was_not_measured_is_no_latency() -> None:
    assert Latencies.of([0.0, -1.0]) == Latencies()
    assert Latencies.of([1e9, 1e-9]).quantile(1) == pytest.approx(36e6, rel=0.02)


def test_mean_and_error_are_those_of_the_values() -> None:
    values = [1.0, 2.0, 4.0]
    found = Latencies.of(values)
    assert found.mean_ms == pytest.approx(np.mean(values))
    assert found.error_ms == pytest.approx(np.std(values, ddof=1) / np.sqrt(3))


def test_an_answer_is_summed_by_the_minute_and_in_an_experiment_by_less() -> None:
    def key(**more: Any) -> AnswerKey:
        fields: dict[str, Any] = {"answered_by": "model", "model_version": "7"}
        slate = Slate(
            recommendation_id="s",
            user_id="ada",
            timestamp=T0 + 59_999,
            items=[SlateItem("a", 1.0, "model")],
            variant="b",
            **fields | more,
        )
        return Answer.of(recorded(slate), "t:0", 1).key

    at = T0 + 59_999
    assert key() == (at - at % MINUTE_MS, "7", "model", "", "", "")
    tried = key(experiment="e", substituted="absent")
    assert tried == (at - at % EXPERIMENT_STEP_MS, "7", "model", "e", "b", "absent")
    of_trending = {"answered_by": "trending", "model_version": None}
    assert key(**of_trending, features={"history_length": 0.0})[2] == FIRST_VISIT
    assert key(**of_trending, features={"history_length": 3.0})[2] == "trending"
    assert key(**of_trending)[2] == "trending", "the store did not tell, which is no first visit"
    assert key(features={"history_length": 0.0})[2] == "model", "the request has brought events"
