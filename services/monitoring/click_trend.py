"""Trend of click-through: the last two full periods against those of the same weekdays before.

A visitor's slates are alike, so visitors are the trials, and the rate of clicked slates is a ratio
of two sums over them. Its variance follows from the delta method (A. Deng et al., "Applying the
Delta Method in Metric Analytics", KDD 2018). The sums of a period are mergeable and have no ids.
Days differ by more than that, and visitors come back: the variance is scaled by how much like
moments before differed in fact, as overdispersed rates are (P. McCullagh, J. Nelder, "Generalized
Linear Models", 1989).

Slates of experiments are left out, and each placement is compared with itself: neither a variant
nor a new placement is a drop. Pure functions.
"""

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Final, NamedTuple

from pydantic import BaseModel, Field
from scipy.special import stdtr

# Periods that are judged together: a drop must last for all of them.
LASTING: Final = 2
# Seasons before with the same weekdays, at most.
SEASONS: Final = 4
# Most pairs of like moments that the scale is taken of, and fewest; with fewer it is the second.
_PAIRS: Final = 28
_FEWEST_PAIRS: Final = 7
_UNKNOWN_SCALE: Final = 2.0
# Least relative drop: smaller ones are no reason to train, however sure.
LEAST_DROP: Final = 0.1
# Chance of a false drop in 30 looks, of all placements together.
_ALPHA: Final = 0.05
_LOOKS: Final = 30
_Z95: Final = 1.959963984540054


class ClickSums(NamedTuple):
    """Sums over visitors of their slates that were shown and clicked, and of the products."""

    visitors: float = 0.0
    slates: float = 0.0
    clicked: float = 0.0
    slates_squared: float = 0.0
    clicked_squared: float = 0.0
    product: float = 0.0

    @property
    def rate(self) -> float:
        """Clicked slates of shown ones."""
        return self.clicked / self.slates if self.slates else 0.0

    @property
    def variance(self) -> float:
        """The variance of the rate, by the delta method; infinite below two visitors."""
        if self.visitors < 2 or not self.slates:
            return float("inf")
        rate = self.rate
        squares = self.clicked_squared - 2 * rate * self.product + rate * rate * self.slates_squared
        # The sum of squares may be below zero by rounding.
        return max(0.0, squares) / self.slates**2 * self.visitors / (self.visitors - 1)


def added(sums: Sequence[ClickSums]) -> ClickSums:
    """The sums of several periods."""
    return ClickSums(*map(sum, zip(*sums, strict=True))) if sums else ClickSums()


class VisitorRate(BaseModel):
    """A share of slates with its 95 % interval over visitors; null without any slate."""

    value: float | None
    low: float
    high: float
    slates: int
    visitors: int

    @classmethod
    def of(cls, sums: ClickSums) -> "VisitorRate":
        wide = _Z95 * sqrt(sums.variance) if sums.visitors >= 2 and sums.slates else 1.0
        return cls(
            value=sums.rate if sums.slates else None,
            low=max(0.0, sums.rate - wide),
            high=min(1.0, sums.rate + wide),
            slates=round(sums.slates),
            visitors=round(sums.visitors),
        )


class PlacementTrend(BaseModel):
    """Click-through of a placement in the last periods, and at the same weekdays before."""

    placement: str
    current: VisitorRate
    before: VisitorRate
    p: float = Field(description="chance of a drop like this among the same visitors")
    fell: bool


class ClickTrend(BaseModel):
    """The trend of the model's slates outside experiments, judged once a period.

    `until` is the end of the last period that had its attribution window, in ms.
    """

    period_ms: int
    until: int
    placements: list[PlacementTrend] = Field(
        description="placements with enough slates in both, the surest drop first"
    )


def references(start: int, period_ms: int, season_ms: int) -> list[list[int]]:
    """For each of the last periods, of which the newest begins at `start`: those before at like
    moments (ms). Periods that are judged themselves are none of them.
    """
    judged = [start - n * period_ms for n in range(LASTING)]
    return [
        [
            earlier
            for season in range(1, SEASONS + 1)
            if (earlier := each - season * season_ms) not in judged
        ]
        for each in judged
    ]


def since(start: int, period_ms: int, season_ms: int) -> int:
    """The beginning of the oldest period that a trend needs (ms)."""
    lag = max(season_ms, LASTING * period_ms)
    return start - max(SEASONS * season_ms, _PAIRS * period_ms + lag) - 2 * LASTING * period_ms


def _dispersion(
    sums: Mapping[int, ClickSums], until: int, period_ms: int, season_ms: int
) -> tuple[float, float]:
    """How many times the stated variance like moments have differed by, at least 1.

    With it come the degrees of freedom of that estimate: pairs of periods that do not overlap.
    """
    lag = max(season_ms, LASTING * period_ms)
    ratios = []
    for end in (until - n * period_ms for n in range(_PAIRS)):
        both = [
            [sums.get(at - n * period_ms, ClickSums()) for n in range(LASTING)]
            for at in (end, end - lag)
        ]
        if all(it.slates for periods in both for it in periods):
            one, other = map(added, both)
            if variance := one.variance + other.variance:
                ratios.append((one.rate - other.rate) ** 2 / variance)
    if len(ratios) < _FEWEST_PAIRS:
        return _UNKNOWN_SCALE, _FEWEST_PAIRS
    return max(1.0, sum(ratios) / len(ratios)), len(ratios) / LASTING


def click_trend(
    sums: Mapping[tuple[int, str], ClickSums],
    start: int,
    period_ms: int,
    season_ms: int,
    least_slates: int,
) -> ClickTrend:
    """The trend at the end of the period that begins at `start`.

    A placement fell when its rate over the last two periods is surely lower, by a tenth at least,
    and each of them is lower than its own reference.

    Args:
        sums: Sums by start of the period (ms) and placement, of all periods since `since`.
        start: Beginning of the newest full period (ms).
        season_ms: Time from one like moment to the next.
        least_slates: Least slates in the last periods, and in those before.
    """
    before = references(start, period_ms, season_ms)
    found = []
    for placement in sorted({placement for _, placement in sums}):
        pairs = [
            (
                sums.get((start - n * period_ms, placement), ClickSums()),
                added([sums[it, placement] for it in before[n] if (it, placement) in sums]),
            )
            for n in range(LASTING)
        ]
        now, then = added([it for it, _ in pairs]), added([it for _, it in pairs])
        if min(now.slates, then.slates) < least_slates or not all(it.slates for _, it in pairs):
            continue
        of_placement = {begin: it for (begin, name), it in sums.items() if name == placement}
        scale, freedom = _dispersion(
            of_placement, start - LASTING * period_ms, period_ms, season_ms
        )
        spread = sqrt(scale * (now.variance + then.variance))
        p = float(stdtr(freedom, (now.rate - then.rate) / spread)) if spread else 1.0
        lower = all(it.slates and it.rate < its.rate for it, its in pairs)
        found.append((placement, now, then, p, lower))
    level = _ALPHA / _LOOKS / max(1, len(found))
    placements = [
        PlacementTrend(
            placement=placement,
            current=VisitorRate.of(now),
            before=VisitorRate.of(then),
            p=p,
            fell=lower and p < level and now.rate < (1 - LEAST_DROP) * then.rate,
        )
        for placement, now, then, p, lower in sorted(found, key=lambda each: each[3])
    ]
    return ClickTrend(period_ms=period_ms, until=start + period_ms, placements=placements)
