"""A drop is judged by visitor, at like moments, of each placement alone, and must last."""

from itertools import chain

import numpy as np
import pytest

from services.monitoring.click_trend import (
    ClickSums,
    ClickTrend,
    VisitorRate,
    added,
    click_trend,
    references,
)
from slipstream.contracts.times import DAY_MS

SEASON_MS = 7 * DAY_MS
TODAY = 100 * DAY_MS
RANDOM = np.random.default_rng(6)


def sums_of(slates: np.ndarray, clicked: np.ndarray) -> ClickSums:
    return ClickSums(
        len(slates),
        slates.sum(),
        clicked.sum(),
        (slates**2).sum(),
        (clicked**2).sum(),
        (slates * clicked).sum(),
    )


def day(rate: float, visitors: int = 2_000) -> ClickSums:
    slates = RANDOM.geometric(0.3, visitors).astype(float)
    return sums_of(slates, RANDOM.binomial(slates.astype(int), rate).astype(float))


def trend(today: float, yesterday: float, before: float, placement: str = "home") -> ClickTrend:
    sums = {(TODAY, placement): day(today), (TODAY - DAY_MS, placement): day(yesterday)}
    for each in references(TODAY, DAY_MS, SEASON_MS):
        sums |= {(start, placement): day(before) for start in each}
    return click_trend(sums, TODAY, DAY_MS, SEASON_MS, 200)


def test_a_drop_that_lasts_is_found() -> None:
    (home,) = trend(0.07, 0.07, 0.1).placements
    assert home.fell
    assert home.current.value == pytest.approx(0.07, abs=0.01)
    assert home.before.value == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize(
    ("today", "yesterday", "before"),
    [
        pytest.param(0.05, 0.12, 0.1, id="a day only"),
        pytest.param(0.1, 0.1, 0.1, id="none"),
        pytest.param(0.12, 0.12, 0.1, id="a rise"),
        pytest.param(0.095, 0.095, 0.1, id="small"),
    ],
)
def test_what_is_no_drop(today: float, yesterday: float, before: float) -> None:
    (home,) = trend(today, yesterday, before).placements
    assert not home.fell


def test_a_drop_is_not_sure_where_days_differ_as_much_by_chance() -> None:
    def home(swing: float) -> bool:
        sums = {
            (TODAY - n * DAY_MS, "home"): day(0.07 if n < 2 else 0.1 + swing * (n // 2 % 2 - 0.5))
            for n in range(60)
        }
        (found,) = click_trend(sums, TODAY, DAY_MS, SEASON_MS, 200).placements
        return found.fell

    assert home(0)
    assert not home(0.08)


def test_a_new_placement_changes_nothing_of_the_others() -> None:
    sums = {(TODAY - n * DAY_MS, "basket"): day(0.01) for n in range(2)}
    for start in {TODAY, TODAY - DAY_MS, *chain(*references(TODAY, DAY_MS, SEASON_MS))}:
        sums[start, "home"] = day(0.1)
    found = click_trend(sums, TODAY, DAY_MS, SEASON_MS, 200)
    assert [(it.placement, it.fell) for it in found.placements] == [("home", False)]


def test_there_is_no_verdict_without_like_moments_or_with_few_slates() -> None:
    today = {(TODAY, "home"): day(0.1), (TODAY - DAY_MS, "home"): day(0.1)}
    assert click_trend(today, TODAY, DAY_MS, SEASON_MS, 200).placements == []
    known = today | {(TODAY - n * DAY_MS, "home"): day(0.3) for n in (7, 8)}
    assert click_trend(known, TODAY, DAY_MS, SEASON_MS, 10**6).placements == []
    assert click_trend(known, TODAY, DAY_MS, SEASON_MS, 200).placements[0].fell


def test_references_are_of_whole_seasons_and_not_of_what_is_judged() -> None:
    first, second = references(TODAY, DAY_MS, SEASON_MS)
    assert first == [TODAY - 7 * n * DAY_MS for n in range(1, 5)]
    assert second == [TODAY - (7 * n + 1) * DAY_MS for n in range(1, 5)]
    first, second = references(TODAY, DAY_MS, DAY_MS)
    assert TODAY - DAY_MS not in first
    assert second == [TODAY - n * DAY_MS for n in range(2, 6)]


def test_the_variance_is_that_of_samples_of_visitors() -> None:
    """Visitors with slates that are alike vary more than as many independent slates."""

    def one() -> ClickSums:
        slates = RANDOM.geometric(0.2, 500).astype(float)
        rates = RANDOM.beta(0.2, 1.8, 500)
        return sums_of(slates, RANDOM.binomial(slates.astype(int), rates).astype(float))

    drawn = [one() for _ in range(600)]
    spread = np.std([each.rate for each in drawn])
    stated = np.sqrt(np.mean([each.variance for each in drawn]))
    assert stated == pytest.approx(spread, rel=0.1)
    independent = np.sqrt(drawn[0].rate * (1 - drawn[0].rate) / drawn[0].slates)
    assert stated > 1.5 * independent


def test_sums_add_up_and_rates_have_intervals() -> None:
    one, other = day(0.1), day(0.2)
    both = added([one, other])
    assert both.slates == one.slates + other.slates
    assert added([]) == ClickSums()
    rate = VisitorRate.of(both)
    assert rate.value is not None
    assert 0 < rate.low < rate.value < rate.high < 1
    nothing = VisitorRate.of(ClickSums())
    assert (nothing.value, nothing.low, nothing.high) == (None, 0.0, 1.0)
    assert VisitorRate.of(ClickSums(1, 2, 1, 4, 1, 2)).high == 1.0
