"""The verdicts on the variants of an experiment, from their sums. Pure functions."""

from collections.abc import Mapping, Sequence
from math import nan
from typing import NamedTuple

from services.monitoring.control.results import (
    METRICS,
    ShareCheck,
    VariantSums,
    VariantVerdict,
    alpha_of,
    shown_variants,
)
from slipstream.contracts.experiments import COSTS, HOLDOUT, ExperimentDesign, Guardrail
from slipstream.contracts.times import DAY_MS
from slipstream.evaluation.experiments.moments import Difference, difference
from slipstream.evaluation.experiments.sequences import Bounds
from slipstream.evaluation.experiments.verdicts import decide, detectable_effect, visitors_left


class Period(NamedTuple):
    """The times of the first and the last slate; None without any."""

    since: int | None
    until: int | None


def verdicts(
    design: ExperimentDesign,
    sums: Mapping[str, VariantSums],
    shares: ShareCheck,
    period: Period,
    currencies: Mapping[str, int],
) -> list[VariantVerdict]:
    """The verdict on each variant; a shadow has none.

    Args:
        shares: The check of how visitors divide.
        currencies: Purchases with a value, by currency.
    """
    if design.kind == "shadow":
        return []
    names = shown_variants(design)
    faults = _faults(design, sums, shares, currencies)
    return [
        _verdict(design, sums, name, names[0], faults, period)
        for name in names[1:]
        if name != HOLDOUT
    ]


def _verdict(
    design: ExperimentDesign,
    sums: Mapping[str, VariantSums],
    name: str,
    control: str,
    faults: Sequence[str],
    period: Period,
) -> VariantVerdict:
    alpha = alpha_of(design)
    gap = compared(design.metric, sums, name, control, alpha)
    crossed, doubtful = _guardrails(design, sums, name, control)
    if gap is None:
        found = decide(Bounds(nan, nan), design.least_effect, faults, crossed, doubtful)
        return VariantVerdict(variant=name, verdict=found.verdict, reason=found.reason)
    effect = Bounds(float(gap.relative.low), float(gap.relative.high))
    found = decide(effect, design.least_effect, faults, crossed, doubtful)
    error, hits = float(gap.error), float(gap.hits)
    visitors = sum(each.visitors for each in sums.values())
    left = visitors_left(error, hits, visitors, alpha, design.least_effect)
    lasted = (period.until or 0) - (period.since or 0)
    return VariantVerdict(
        variant=name,
        verdict=found.verdict,
        reason=found.reason,
        detectable=detectable_effect(error, hits, alpha),
        visitors_left=left,
        days_left=left / visitors * lasted / DAY_MS if left is not None and lasted else None,
    )


def compared(
    metric: str, sums: Mapping[str, VariantSums], name: str, control: str, alpha: float
) -> Difference | None:
    """The difference of two variants; None where one has no visitors, or the metric is unknown."""
    if metric not in METRICS or name not in sums or control not in sums:
        return None
    own, other = (sums[each].moments[metric] for each in (name, control))
    return difference(own, other, alpha, most=METRICS[metric].most * METRICS[metric].unit)


def _guardrails(
    design: ExperimentDesign, sums: Mapping[str, VariantSums], name: str, control: str
) -> tuple[list[str], list[str]]:
    """The guardrails that a variant surely crosses, and those that it seems to cross."""
    crossed, doubtful = [], []
    for guardrail in design.guardrails:
        gap = compared(guardrail.metric, sums, name, control, alpha_of(design))
        if gap is None:
            continue
        found = gap.absolute if METRICS[guardrail.metric].is_share else gap.relative
        value, low, high = (float(each) for each in found)
        sure, seen = (low, value) if guardrail.metric in COSTS else (-high, -value)
        if sure > guardrail.worse:
            crossed.append(_words(guardrail, "is worse by at least", sure))
        elif seen > guardrail.worse:
            doubtful.append(_words(guardrail, "seems worse by", seen))
    return crossed, doubtful


def _words(guardrail: Guardrail, verb: str, by: float) -> str:
    return f"{guardrail.metric} {verb} {by:.1%}, and {guardrail.worse:.1%} are allowed"


def _faults(
    design: ExperimentDesign,
    sums: Mapping[str, VariantSums],
    shares: ShareCheck,
    currencies: Mapping[str, int],
) -> list[str]:
    """Reasons why the data can't be trusted."""
    faults = []
    if shares.is_broken:
        seen = ", ".join(f"{name} {count:,}" for name, count in shares.visitors.items())
        faults.append(f"visitors do not divide as designed ({seen}; p = {shares.p_value:.1g})")
    needed = {design.metric, *(guardrail.metric for guardrail in design.guardrails)}
    if "revenue_per_visitor" in needed:
        named = sorted(currency for currency, count in currencies.items() if currency and count > 0)
        if len(named) > 1:
            faults.append(f"purchases are in {', '.join(named)}: revenue has no sum")
        bought = sum(float(it.moments["revenue_per_visitor"].hits) for it in sums.values())
        if not bought and any(float(it.moments["conversion"].hits) >= 100 for it in sums.values()):
            faults.append("no purchase has a value: revenue is unknown")
    if "latency" in needed:
        untimed = [
            name
            for name, it in sums.items()
            if it.visitors >= 100 and not float(it.moments["latency"].b)
        ]
        if untimed:
            faults.append(f"slates of {', '.join(sorted(untimed))} have no latency")
    return faults
