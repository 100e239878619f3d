"""Rates with their intervals, and how counts become a report."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.monitoring.attribution import Bucket, Counts
from services.monitoring.quality import report, wilson

HOUR = 3_600_000


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [
        (10, 100, 0.0552, 0.1744),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (1, 1_000_000, 1.8e-7, 5.7e-6),
    ],
)
def test_wilson_gives_the_published_intervals(count: int, of: int, low: float, high: float) -> None:
    rate = wilson(count, of)
    assert (rate.low, rate.high) == (
        pytest.approx(low, rel=0.02, abs=1e-9),
        pytest.approx(high, rel=0.02),
    )


def test_wilson_of_nothing_has_no_value() -> None:
    rate = wilson(0, 0)
    assert (rate.value, rate.low, rate.high) == (None, 0.0, 1.0)


@settings(deadline=None)
@given(st.integers(1, 10_000).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_wilson_contains_its_value_within_zero_and_one(counts: tuple[int, int]) -> None:
    rate = wilson(*counts)
    assert rate.value is not None
    assert 0 <= rate.low <= rate.value <= rate.high <= 1


def test_report_adds_up_by_version_step_and_time() -> None:
    counts = {
        Bucket(0, "1", "model"): Counts(
            slates=4, shown=4, items=40, clicked_slates=1, clicked_items=2
        ),
        Bucket(HOUR // 2, "1", "model"): Counts(
            slates=6, shown=6, items=60, clicked_slates=3, clicked_items=3
        ),
        Bucket(HOUR, "2", "model"): Counts(
            slates=5, shown=5, items=50, converted_slates=1, converted_items=1
        ),
        Bucket(HOUR, "", "none"): Counts(slates=5),
    }
    result = report(counts, 0, 2 * HOUR, HOUR, 60_000)
    assert (result.total.slates, result.total.shown) == (20, 15)
    assert {row.model_version: row.click_through.value for row in result.by_model} == {
        "1": 0.4,
        "2": 0.0,
        "": None,
    }
    assert {row.answered_by: row.slates for row in result.by_answered_by} == {
        "model": 15,
        "none": 5,
    }
    assert [(row.start, row.model_version, row.slates) for row in result.series] == [
        (0, "1", 10),
        (HOUR, "", 5),
        (HOUR, "2", 5),
    ]
    assert result.model_dump(by_alias=True)["from"] == 0


def test_report_of_nothing_has_a_total_without_rates() -> None:
    result = report({}, 0, HOUR, HOUR, 60_000)
    assert (result.total.slates, result.total.click_through.value, result.by_model) == (0, None, [])
