"""The gate: may this challenger replace the champion? A pure function of measurements.

The rule, on one metric (NDCG@10), every difference paired on the same queries with a 95 % bootstrap interval:

1. A challenger that is worse than recommending what is popular is refused.
2. Without a champion, it is promoted.
3. When the lower end of challenger - champion is above the margin, it is promoted: surely better.
4. When the champion is older than the limit and that lower end is above minus the tolerance, it is promoted: fresher, and
   surely not much worse.
5. Anything else is refused, too few queries to compare on included: the champion has earned its place.

Margin and tolerance are shares of the champion's figure, since one catalogue's 0.02 is another's 0.2.
"""

from dataclasses import dataclass
from typing import Literal

from services.training.settings import GateSettings
from slipstream.evaluation.significance import Interval


@dataclass(frozen=True)
class Comparison:
    """Two recommenders on the same `queries` queries: means of the metric, and challenger - other with its interval."""

    queries: int
    challenger: float
    other: float
    difference: Interval


@dataclass(frozen=True)
class Champion:
    """The one in service. `age_hours` counts from when it was fitted."""

    version: str
    age_hours: float


@dataclass(frozen=True)
class Decision:
    """What the gate says, in words and numbers."""

    outcome: Literal["promoted", "refused"]
    reason: str
    numbers: dict[str, float]

    @property
    def promoted(self) -> bool:
        return self.outcome == "promoted"


def decide(
    popularity: Comparison, champion: Champion | None, against_champion: Comparison | None, settings: GateSettings
) -> Decision:
    """Promote or refuse. `against_champion` is None when there is no champion or nothing to compare it on."""
    numbers = _numbers("popularity", popularity)
    if popularity.difference.value < 0:
        return Decision("refused", f"worse than popularity: {_words(popularity)}", numbers)
    if champion is None:
        return Decision("promoted", f"there is no champion, and it is not worse than popularity: {_words(popularity)}", numbers)
    numbers["champion_age_hours"] = champion.age_hours
    if against_champion is None or against_champion.queries < settings.min_queries:
        found = against_champion.queries if against_champion else 0
        reason = (
            f"only {found} test events are newer than what champion {champion.version} was fitted on, "
            f"{settings.min_queries} are needed to compare"
        )
        return Decision("refused", reason, numbers)
    numbers |= _numbers("champion", against_champion)
    low = against_champion.difference.low
    margin, tolerance = settings.margin * against_champion.other, settings.tolerance * against_champion.other
    if low > margin:
        return Decision("promoted", f"surely better than champion {champion.version}: {_words(against_champion)}", numbers)
    old = champion.age_hours > settings.champion_max_age_hours
    if old and low > -tolerance:
        reason = (
            f"champion {champion.version} is {champion.age_hours:.0f} h old (limit {settings.champion_max_age_hours:.0f} h) "
            f"and the challenger is not worse by more than {tolerance:.4f}: {_words(against_champion)}"
        )
        return Decision("promoted", reason, numbers)
    wanted = f"above {-tolerance:.4f}, as the champion is old" if old else f"above {margin:.4f}"
    reason = f"not surely better than champion {champion.version}: {_words(against_champion)}, the lower end must be {wanted}"
    return Decision("refused", reason, numbers)


def _numbers(other: str, comparison: Comparison) -> dict[str, float]:
    difference = comparison.difference
    return {
        f"{other}_queries": float(comparison.queries),
        f"{other}_challenger_ndcg@10": comparison.challenger,
        f"{other}_ndcg@10": comparison.other,
        f"{other}_difference": difference.value,
        f"{other}_difference_low": difference.low,
        f"{other}_difference_high": difference.high,
    }


def _words(comparison: Comparison) -> str:
    difference = comparison.difference
    return (
        f"NDCG@10 {comparison.challenger:.4f} against {comparison.other:.4f} on {comparison.queries} queries, "
        f"difference {difference.value:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"
    )
