"""Rates with their intervals, and how counts become a report."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi import Request
from hypothesis import given, settings
from hypothesis import strategies as st

from services.monitoring.api import quality_report
from services.monitoring.quality import Bucket, Counts, report, wilson
from slipstream.chassis.errors import InvalidRequestError

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


@pytest.fixture
def reads() -> list[int]:
    return []


@pytest.fixture
def request_to(reads: list[int]) -> Request:
    def counts(since: int, _until: int) -> dict[Any, Any]:
        reads.append(since)
        return {}

    parts = SimpleNamespace(
        outcomes=SimpleNamespace(counts=counts),
        settings=SimpleNamespace(attribution_window_s=60),
        clock=lambda: 1_700_000_000_000,
    )
    app = SimpleNamespace(state=SimpleNamespace(parts=parts))
    return cast(Request, SimpleNamespace(app=app))


@pytest.mark.parametrize("hours", [181, 2160])
def test_more_steps_than_anyone_can_look_at_are_refused_before_counts_are_read(
    request_to: Request, reads: list[int], hours: int
) -> None:
    with pytest.raises(InvalidRequestError, match="step=hour, or for at most 180 hours") as refused:
        quality_report(request_to, hours=hours, step="5m")
    assert (refused.value.status, refused.value.code, reads) == (400, "too_many_steps", [])


@pytest.mark.parametrize(("hours", "step"), [(180, "5m"), (2160, "hour"), (2160, "day")])
def test_other_periods_are_answered(
    request_to: Request, reads: list[int], hours: int, step: Any
) -> None:
    assert quality_report(request_to, hours=hours, step=step).total.slates == 0
    assert len(reads) == 1
