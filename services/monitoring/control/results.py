"""Results of an experiment: rates of its variants with intervals, and votes of interleaved slates.

Visitors are assigned, and a visitor's slates are alike. So an interval goes over visitors: that of
a ratio of two sums by the delta method (A. Deng, U. Knoblich, J. Lu, "Applying the delta method in
metric analytics", KDD 2018). A shadow's lists are compared with those that were shown. Pure
functions.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import exp, lgamma, log, sqrt
from types import MappingProxyType
from typing import Final, NamedTuple

from pydantic import BaseModel, Field

from services.monitoring.control.guards import Latency, Makers, latency


class ShadowResult(BaseModel):
    """A shadow variant's slates, and how they compare with those that were shown.

    `overlap` is the mean share of a shown list's items that stand in the shadow's, of the newest
    pairs. Of the items that were clicked after shown lists, `clicked_in_shadow` stand there, too.
    """

    variant: str
    slates: int
    models: dict[str, int] = Field(description="slates by model version; empty for no model")
    substituted: dict[str, int] = Field(description="slates that its model did not make, by reason")
    latency_ms: Latency
    compared: int
    overlap: float | None
    clicked: int
    clicked_in_shadow: int


@dataclass(frozen=True, slots=True)
class ShadowPair:
    """The items of a shown list and of its shadow."""

    shown: frozenset[str]
    shadow: frozenset[str]


def shadow_result(
    variant: str, makers: Makers, pairs: Iterable[ShadowPair], clicked: Iterable[bool]
) -> ShadowResult:
    """The result of a shadow.

    Args:
        variant: Its name.
        makers: The makers of its slates.
        pairs: Shown lists with items, each with its shadow.
        clicked: For each item that was clicked in a shown list, whether it stands in the shadow.
    """
    shares = [len(pair.shown & pair.shadow) / len(pair.shown) for pair in pairs]
    hits = list(clicked)
    return ShadowResult(
        variant=variant,
        slates=sum(makers.models.values()) + sum(makers.substituted.values()),
        models=dict(makers.models),
        substituted=dict(makers.substituted),
        latency_ms=latency(makers.latencies),
        compared=len(shares),
        overlap=sum(shares) / len(shares) if shares else None,
        clicked=len(hits),
        clicked_in_shadow=sum(hits),
    )


# Least visitors of a variant for an interval: the sums of fewer are not normal.
FEWEST_VISITORS: Final = 30
_Z95: Final = 1.959963984540054


class HitSums(NamedTuple):
    """Sums over a variant's visitors, who have n slates each, and x of them with a hit."""

    x: int = 0
    xx: int = 0
    xn: int = 0


class VariantSums(NamedTuple):
    """The sums of a variant: visitors, slates (n and n²), clicked and converted slates."""

    visitors: int = 0
    n: int = 0
    nn: int = 0
    clicked: HitSums = HitSums()
    converted: HitSums = HitSums()


class Estimate(BaseModel):
    """A value and its 95 % interval; null where there are too few visitors or hits for one."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Rates(BaseModel):
    """The share of slates with a hit, and its difference to the first variant's."""

    slates: int = Field(description="slates with a hit")
    rate: Estimate
    difference: Estimate | None = Field(description="null for the first variant")


class VariantResult(BaseModel):
    """A variant's visitors and slates with items, and how many were clicked and converted."""

    variant: str
    visitors: int
    slates: int
    click_through: Rates
    conversion: Rates
    models: dict[str, int] = Field(description="slates by model version; empty for no model")
    substituted: dict[str, int] = Field(
        description="slates that the champion made for its model, by reason; in no other figure"
    )
    latency_ms: Latency


class Votes(BaseModel):
    """Wins of the second variant over the control, losses, and ties."""

    wins: int = 0
    losses: int = 0
    ties: int = 0

    def count(self, balance: int) -> None:
        """Count one vote by its sign."""
        if balance > 0:
            self.wins += 1
        elif balance < 0:
            self.losses += 1
        else:
            self.ties += 1


class InterleavedResult(BaseModel):
    """Votes of the clicked slates, and of their visitors: each votes as most of the own slates do.

    `p_value` is that of the sign test over visitors; null where there is no win and no loss.
    """

    slates: Votes
    visitors: Votes
    p_value: float | None


class ExperimentResults(BaseModel):
    """The results of an experiment, of the slates that monitoring still keeps, from `from` on.

    Variants are compared with the control, an interleaved list with the holdout.
    """

    experiment: str
    control: str
    from_: int | None = Field(serialization_alias="from")
    variants: list[VariantResult]
    interleaved: InterleavedResult | None
    shadow: ShadowResult | None = None


@dataclass(frozen=True, slots=True)
class ClickedSlate:
    """A clicked interleaved slate: its visitor, the variant of each item, and the clicked items."""

    user_id: str
    teams: Mapping[str, str]
    clicked: frozenset[str]


def variant_results(
    names: Sequence[str],
    sums: Mapping[str, VariantSums],
    makers: Mapping[str, Makers] = MappingProxyType({}),
) -> list[VariantResult]:
    """The results of variants in this order, each compared with the first."""
    control = sums.get(names[0], VariantSums())
    results = []
    for name in names:
        own, made = sums.get(name, VariantSums()), makers.get(name, Makers())
        against = None if name == names[0] else control
        results.append(
            VariantResult(
                variant=name,
                visitors=own.visitors,
                slates=own.n,
                click_through=_rates(own, own.clicked, against, control.clicked),
                conversion=_rates(own, own.converted, against, control.converted),
                models=dict(made.models),
                substituted=dict(made.substituted),
                latency_ms=latency(made.latencies),
            )
        )
    return results


def interleaved_result(control: str, slates: Iterable[ClickedSlate]) -> InterleavedResult:
    """The votes of clicked slates, which come sorted by visitor."""
    by_slate, by_visitor = Votes(), Votes()
    for _, own in groupby(slates, key=lambda slate: slate.user_id):
        leaning = 0
        for slate in own:
            teams = [slate.teams[item_id] for item_id in slate.clicked if item_id in slate.teams]
            balance = sum(-1 if team == control else 1 for team in teams)
            by_slate.count(balance)
            leaning += (balance > 0) - (balance < 0)
        by_visitor.count(leaning)
    return InterleavedResult(
        slates=by_slate,
        visitors=by_visitor,
        p_value=sign_test(by_visitor.wins, by_visitor.losses),
    )


def sign_test(wins: int, losses: int) -> float | None:
    """The two-sided p-value of the exact sign test; None without wins and losses."""
    n, least = wins + losses, min(wins, losses)
    if n == 0:
        return None
    term = exp(lgamma(n + 1) - lgamma(least + 1) - lgamma(n - least + 1) - n * log(2))
    tail, k = 0.0, least
    while k >= 0 and term > tail * 1e-16:
        tail += term
        term *= k / (n - k + 1)
        k -= 1
    return min(1.0, 2 * tail)


def _rates(
    own: VariantSums, hits: HitSums, control: VariantSums | None, control_hits: HitSums
) -> Rates:
    return Rates(
        slates=hits.x,
        rate=_interval(_rate(own, hits), _variance(own, hits)),
        difference=None if control is None else _difference(own, hits, control, control_hits),
    )


def _difference(
    own: VariantSums, hits: HitSums, control: VariantSums, control_hits: HitSums
) -> Estimate:
    rate, control_rate = _rate(own, hits), _rate(control, control_hits)
    if rate is None or control_rate is None:
        return Estimate(value=None)
    variances = _variance(own, hits), _variance(control, control_hits)
    both = None if None in variances else sum(each or 0.0 for each in variances)
    return _interval(rate - control_rate, both)


def _rate(sums: VariantSums, hits: HitSums) -> float | None:
    return hits.x / sums.n if sums.n else None


def _variance(sums: VariantSums, hits: HitSums) -> float | None:
    """The variance of the rate; None where there are too few visitors, or hits are none or all."""
    if sums.visitors < FEWEST_VISITORS or hits.x in (0, sums.n):
        return None
    rate = hits.x / sums.n
    squares = hits.xx - 2 * rate * hits.xn + rate * rate * sums.nn
    return squares * sums.visitors / (sums.visitors - 1) / sums.n**2


def _interval(value: float | None, variance: float | None) -> Estimate:
    if value is None or variance is None:
        return Estimate(value=value)
    half = _Z95 * sqrt(max(variance, 0.0))
    return Estimate(value=value, low=value - half, high=value + half)
