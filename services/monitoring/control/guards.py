"""The judgement of canaries: whether one is beyond the bounds of its guard. Pure functions.

A variant's slates have makers: model versions, substitutes, and how long they took. Bounds are
compared with what is nearly sure (99.9 %), since a guard looks often and would otherwise stop good
canaries by chance. Latencies have long tails: the 99th percentile is judged by the share of slates
that are slower than the bound, which needs no shape of a distribution.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from pydantic import BaseModel

from services.monitoring.answers import Latencies
from services.monitoring.quality import wilson
from slipstream.contracts.experiments import Guard


class Latency(BaseModel):
    """Latencies of the newest slates of a variant, in ms; null without any.

    `p99` is at most 2 % more than the true percentile.
    """

    slates: int
    mean: float | None
    p99: float | None


class Makers(NamedTuple):
    """The models that made a variant's slates, by version, and why the champion made others."""

    models: Mapping[str, int] = MappingProxyType({})
    substituted: Mapping[str, int] = MappingProxyType({})
    latencies: Latencies = Latencies()


def latency(latencies: Latencies) -> Latency:
    """The mean and the 99th percentile of latencies."""
    if not latencies.count:
        return Latency(slates=0, mean=None, p99=None)
    return Latency(slates=latencies.count, mean=latencies.mean_ms, p99=latencies.quantile(0.99))


_Z: Final = 3.29
# Share of a canary's slates with an absent model, from which the canary does not do its part.
_MOST_ABSENT: Final = 0.5


class Judgement(BaseModel):
    """The judgement of a canary. It is `unjudged` where too little is known of the window."""

    state: Literal["within", "beyond", "unjudged"]
    reason: str = ""


class WindowSums(NamedTuple):
    """The sums of a variant's slates in the guard's window.

    Attributes:
        slates: All slates.
        absent: Those for which serving did not hold the variant's model.
        failed: Those that the champion made for another reason.
        by_model: Those that the variant's own model made.
        latencies: The latencies of these.
    """

    slates: int = 0
    absent: int = 0
    failed: int = 0
    by_model: int = 0
    latencies: Latencies = Latencies()

    @property
    def present(self) -> int:
        """Slates for which the model was held."""
        return self.slates - self.absent


def judge(
    guard: Guard,
    control: WindowSums,
    canary: WindowSums,
    *,
    clicks_high: float | None,
    behind_s: float | None,
    is_whole: bool,
) -> Judgement:
    """The judgement of a canary.

    Args:
        control: Sums of the control, in the guard's window.
        canary: Sums of the canary there.
        clicks_high: The upper end of its relative click-through, over its whole time and at 99.9 %;
            None where there are too few clicks.
        behind_s: Age of the newest slate that monitoring has read; None for no slate.
        is_whole: Whether the experiment is as it is since the window's beginning.
    """
    if behind_s is None or behind_s > guard.window_s:
        newest = "none has been read" if behind_s is None else f"the newest is {behind_s:.0f} s old"
        return Judgement(
            state="unjudged", reason=f"no slate of the last {guard.window_s} s is known: {newest}"
        )
    if clicks_high is not None and clicks_high < -guard.lost_clicks:
        return _beyond(f"it loses at least {-clicks_high:.1%} of the control's clicks")
    is_enough = is_whole and canary.slates >= guard.least_slates
    if is_enough and canary.absent > _MOST_ABSENT * canary.slates:
        return _beyond(
            f"its model was not at hand for {canary.absent:,} of {canary.slates:,} slates"
        )
    least = min(canary.present, control.slates)
    if least < guard.least_slates:
        return Judgement(
            state="unjudged",
            reason=f"in {guard.window_s} s the canary made {canary.present:,} slates, the control "
            f"{control.slates:,}: {guard.least_slates} of each are needed",
        )
    reason = _failures(guard, control, canary) or _slowness(guard, control, canary)
    return _beyond(reason) if reason else Judgement(state="within")


def _beyond(reason: str) -> Judgement:
    return Judgement(state="beyond", reason=reason)


def _failures(guard: Guard, control: WindowSums, canary: WindowSums) -> str:
    own = wilson(canary.present - canary.by_model, canary.present, _Z)
    other = wilson(control.slates - control.by_model, control.slates, _Z)
    more = (own.value or 0.0) - (other.value or 0.0)
    if more <= guard.failures or own.low <= other.high:
        return ""
    return (
        f"its model did not make {own.value:.1%} of {own.of:,} slates, the control's "
        f"{other.value:.1%} of {other.of:,}; it failed for {canary.failed:,}"
    )


def _slowness(guard: Guard, control: WindowSums, canary: WindowSums) -> str:
    own, other = canary.latencies, control.latencies
    if min(own.count, other.count) < guard.least_slates:
        return ""
    bound = _bound(guard, other.mean_ms + _Z * other.error_ms)
    if own.mean_ms - _Z * own.error_ms > bound:
        return f"it takes {own.mean_ms:.1f} ms on the average, the control {other.mean_ms:.1f}"
    # Both err on the side of the canary: the percentile is not too low, the number not too high.
    other_p99 = other.quantile(0.99)
    if wilson(own.slower(_bound(guard, other_p99)), own.count, _Z).low > 0.01:
        own_p99 = own.quantile(0.99)
        return f"its 99th percentile of latency is {own_p99:.1f} ms, the control's {other_p99:.1f}"
    return ""


def _bound(guard: Guard, taken_ms: float) -> float:
    return max(taken_ms * guard.slower, taken_ms + guard.slower_ms)
