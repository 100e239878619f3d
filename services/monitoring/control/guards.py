"""The judgement of canaries: whether one is beyond the bounds of its guard. Pure functions.

A variant's slates have makers: model versions, substitutes, and how long they took. Bounds are
compared with what is nearly sure (99.9 %), since a guard looks often and would otherwise stop good
canaries by chance. Latencies have long tails: the 99th percentile is judged by the share of slates
that are slower than the bound, which needs no shape of a distribution.
"""

from collections.abc import Mapping, Sequence
from math import ceil, sqrt
from statistics import fmean, variance
from types import MappingProxyType
from typing import Final, NamedTuple

from pydantic import BaseModel

from services.monitoring.quality import wilson
from slipstream.contracts.experiments import Guard


class Latency(BaseModel):
    """Latencies of the newest slates of a variant, in ms; null without any."""

    slates: int
    mean: float | None
    p99: float | None


class Makers(NamedTuple):
    """The models that made a variant's slates, by version, and why the champion made others."""

    models: Mapping[str, int] = MappingProxyType({})
    substituted: Mapping[str, int] = MappingProxyType({})
    latencies: Sequence[float] = ()


def latency(latencies: Sequence[float]) -> Latency:
    """The mean and the 99th percentile of latencies."""
    if not latencies:
        return Latency(slates=0, mean=None, p99=None)
    mean = sum(latencies) / len(latencies)
    return Latency(slates=len(latencies), mean=mean, p99=percentile(latencies, 0.99))


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that at least this share of the values does not exceed."""
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


_Z: Final = 3.29
# Share of a canary's slates with an absent model, from which the canary does not do its part.
_MOST_ABSENT: Final = 0.5


class RecentAnswer(NamedTuple):
    """A slate as guards see it; without latency where an older serving made it."""

    variant: str
    answered_by: str
    substituted: str
    latency_ms: float | None


def fault(
    guard: Guard,
    control: Sequence[RecentAnswer],
    canary: Sequence[RecentAnswer],
    *,
    is_whole: bool,
) -> str:
    """Why a canary is beyond its bounds; empty where it is within them, or too little is known.

    Args:
        guard: The bounds.
        control: Slates of the control, in the guard's window.
        canary: Slates of the canary there.
        is_whole: Whether the experiment is as it is since the window's beginning.
    """
    if len(canary) < guard.least_slates:
        return ""
    present = [answer for answer in canary if answer.substituted != "absent"]
    absent = len(canary) - len(present)
    if is_whole and absent > _MOST_ABSENT * len(canary):
        return f"its model was not at hand for {absent:,} of {len(canary):,} slates"
    if min(len(present), len(control)) < guard.least_slates:
        return ""
    return _failures(guard, control, present) or _slowness(guard, control, present)


def _failures(guard: Guard, control: Sequence[RecentAnswer], canary: Sequence[RecentAnswer]) -> str:
    own, other = (
        wilson(sum(not _is_by_model(answer) for answer in answers), len(answers), _Z)
        for answers in (canary, control)
    )
    more = (own.value or 0.0) - (other.value or 0.0)
    if more <= guard.failures or own.low <= other.high:
        return ""
    failed = sum(bool(answer.substituted) for answer in canary)
    return (
        f"its model did not make {own.value:.1%} of {own.of:,} slates, the control's "
        f"{other.value:.1%} of {other.of:,}; it failed for {failed:,}"
    )


def _slowness(guard: Guard, control: Sequence[RecentAnswer], canary: Sequence[RecentAnswer]) -> str:
    own, other = (
        [
            answer.latency_ms
            for answer in answers
            if answer.latency_ms is not None and _is_by_model(answer)
        ]
        for answers in (canary, control)
    )
    if min(len(own), len(other)) < guard.least_slates:
        return ""
    own_mean, other_mean = fmean(own), fmean(other)
    bound = _bound(guard, other_mean + _Z * sqrt(variance(other) / len(other)))
    if own_mean - _Z * sqrt(variance(own) / len(own)) > bound:
        return f"it takes {own_mean:.1f} ms on the average, the control {other_mean:.1f}"
    other_p99 = percentile(other, 0.99)
    slow = sum(taken > _bound(guard, other_p99) for taken in own)
    if wilson(slow, len(own), _Z).low > 0.01:
        own_p99 = percentile(own, 0.99)
        return f"its 99th percentile of latency is {own_p99:.1f} ms, the control's {other_p99:.1f}"
    return ""


def _bound(guard: Guard, taken_ms: float) -> float:
    return max(taken_ms * guard.slower, taken_ms + guard.slower_ms)


def _is_by_model(answer: RecentAnswer) -> bool:
    return answer.answered_by == "model" and not answer.substituted
