"""Verdicts on experiments: ship, go on, stop or broken, and how much measuring is left."""

from collections.abc import Sequence
from math import ceil, isfinite
from statistics import NormalDist
from typing import Final, Literal, NamedTuple

from slipstream.evaluation.experiments.sequences import FEWEST_HITS, Bounds, boundary

VerdictName = Literal["ship", "go_on", "stop", "broken"]
# Probability that an effect as large as the detectable one shows.
POWER: Final = 0.8
_Z: Final = NormalDist().inv_cdf(POWER)
# The most that planning looks ahead, as a multiple of the visitors until now.
_FURTHEST: Final = 1_000_000.0


class Verdict(NamedTuple):
    """A verdict with its reason, as a sentence without a full stop."""

    verdict: VerdictName
    reason: str


def decide(
    effect: Bounds,
    least_effect: float,
    faults: Sequence[str],
    crossed: Sequence[str],
    doubtful: Sequence[str],
) -> Verdict:
    """The verdict on a variant.

    Args:
        effect: The confidence sequence of its relative effect; ends may be NaN.
        faults: Reasons why the data can't be trusted.
        crossed: Guardrails that are surely crossed.
        doubtful: Guardrails that seem to be crossed.
    """
    if faults:
        return Verdict("broken", "; ".join(faults))
    if crossed:
        return Verdict("stop", "; ".join(crossed))
    if effect.high < 0:
        return Verdict("stop", f"it loses at least {-effect.high:.1%}")
    if effect.high < least_effect:
        return Verdict("stop", f"it gains {effect.high:.1%} at most: less than {least_effect:.1%}")
    if effect.low > 0 and doubtful:
        return Verdict("go_on", f"it gains at least {effect.low:.1%}, but {'; '.join(doubtful)}")
    if effect.low > 0:
        return Verdict("ship", f"it gains at least {effect.low:.1%}")
    if not isfinite(effect.low):
        return Verdict("go_on", f"there are too few hits: intervals begin at {FEWEST_HITS}")
    high = f"{effect.high:+.1%}" if isfinite(effect.high) else "any gain"
    return Verdict("go_on", f"{effect.low:+.1%} to {high} are possible")


def detectable_effect(error: float, hits: float, alpha: float) -> float | None:
    """The relative effect that shows with a probability of `POWER`, at this many hits. `error` is
    the standard error of the relative effect; `alpha` is the confidence sequence's level.
    """
    effect = (float(boundary(hits, alpha)) + _Z) * error
    return effect if isfinite(effect) else None


def visitors_left(
    error: float, hits: float, visitors: int, alpha: float, least_effect: float
) -> int | None:
    """The visitors that are left until the least effect shows with a probability of `POWER`.

    None where nothing is known yet, or where a million times as many would not do. Error, hits and
    visitors are those until now; `error` is of the relative effect.
    """

    def shows(times: float) -> bool:
        effect = detectable_effect(error / times**0.5, hits * times, alpha)
        return effect is not None and effect <= least_effect

    if not (isfinite(error) and hits > 0 and shows(_FURTHEST)):
        return None
    low, high = 1.0, _FURTHEST
    if shows(low):
        return 0
    while high / low > 1.001:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if shows(middle) else (middle, high)
    return ceil((high - 1) * visitors)
