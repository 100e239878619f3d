"""The gate decides whether a challenger replaces the champion: a pure function of measurements.

Quality is NDCG@10, every difference paired on the same queries with a 95 % bootstrap interval.

1. A challenger that is worse than popularity is refused: on all queries, and in each large cohort.
2. A challenger that takes too long to answer, or too much space, is refused.
3. A challenger that guesses nearly every next item of a larger catalogue is refused, and one that
   shows far fewer items than the champion: both are signs of scripted visitors in its data.
4. Without a champion, it is promoted.
5. When the lower end of challenger - champion is above the margin, it is promoted: surely better.
6. When the champion is older than the limit and that lower end is above minus the tolerance, it is
   promoted: fresher, and surely not much worse.
7. Otherwise it is refused, also where too few queries can be compared, or where the run compared
   with an earlier champion: the champion has earned its place.

After a shift the rules are the same, and the queries are from after its onset. Where lists led to
queries, the words say to how many: a champion is favoured by them.

While monitoring finds a fault of the data, nothing is promoted (`held_back`).

Margin and tolerance are shares of the champion's figure, since one catalogue's 0.02 is another's
0.2. A refusal names every rule against the challenger, so that a person sees all its faults at
once.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from services.training.settings import GateSettings
from slipstream.contracts.times import format_time
from slipstream.evaluation.significance import Interval

_MIB = 2**20
# In smaller catalogues a list of ten is a good part of everything, and a high hit rate no wonder.
_LARGE_CATALOGUE = 200
# The number of a decision that counts the rules broken of those that know no champion.
FAULTS = "faults"


@dataclass(frozen=True)
class Comparison:
    """Two recommenders on the same queries.

    Attributes:
        queries: Number of queries.
        challenger: Mean NDCG@10 of the challenger.
        other: Mean NDCG@10 of the other.
        difference: Mean of challenger - other, with its interval.
    """

    queries: int
    challenger: float
    other: float
    difference: Interval


@dataclass(frozen=True)
class Measurements:
    """Measurements of a challenger.

    Attributes:
        popularity: Comparison with popularity on all queries.
        latency_p95_ms: Processor time of a query through the stages that serve, at the 95th
            percentile.
        bundle_bytes: Size of the challenger's bundle.
        cohorts: Comparison with popularity by cohort.
        champion: Comparison with the champion; None without queries to compare on.
        champion_latency_p95_ms: The champion's processor time; None where it was not asked.
        visitors: Number of visitors that the queries are about.
        items: Number of items in the challenger's catalogue.
        hit_rate: Share of the queries with the next item among the challenger's ten.
        coverage: Share of the catalogue in any of the challenger's lists of ten.
        champion_coverage: The same of the champion's lists; None where it was not asked.
        onset: When the shift began that the queries are from after (ms); None without one.
        listed: Number of queries that lists led to, mostly the champion's.
    """

    popularity: Comparison
    latency_p95_ms: float
    bundle_bytes: int
    cohorts: Mapping[str, Comparison] = field(default_factory=dict)
    champion: Comparison | None = None
    champion_latency_p95_ms: float | None = None
    visitors: int = 0
    items: int = 0
    hit_rate: float = 0.0
    coverage: float = 0.0
    champion_coverage: float | None = None
    onset: int | None = None
    listed: int = 0


@dataclass(frozen=True)
class StandingChampion:
    """The champion in service.

    Attributes:
        version: Its version.
        age_hours: Hours since it was fitted.
        judged: Whether the run compared with it; False where it came into service meanwhile.
    """

    version: str
    age_hours: float
    judged: bool = True


@dataclass(frozen=True)
class Decision:
    """Decision of the gate, with its reason in words and the numbers that it rests on."""

    outcome: Literal["promoted", "refused"]
    reason: str
    numbers: dict[str, float]

    @property
    def promoted(self) -> bool:
        return self.outcome == "promoted"


def decide(
    measured: Measurements, champion: StandingChampion | None, settings: GateSettings
) -> Decision:
    """Promote the challenger or refuse it.

    Args:
        champion: The champion in service. Without it, the comparison with it does not count.
    """
    against = [
        *_worse_than_popularity(measured, settings),
        *_over_budget(measured, settings),
        *_implausible(measured, settings),
    ]
    numbers = {FAULTS: float(len(against)), **_numbers(measured, champion)}
    against += _narrower(measured, champion, settings)
    better, reason = _better(measured, champion, settings)
    if not better:
        against.append(reason)
    if against:
        return Decision("refused", "; ".join(against), numbers)
    return Decision("promoted", reason, numbers)


def held_back(decision: Decision, faults: Sequence[str]) -> Decision:
    """The decision while the data is at fault: nothing is promoted.

    A model that learned from such data may pass every rule on such data. The version stays in the
    registry: a person may promote it, and the next run after the fault is judged again.
    """
    if not faults or not decision.promoted:
        return decision
    reason = f"held back, since the data is at fault: {'; '.join(faults)}. Without that: "
    return Decision("refused", reason + decision.reason, decision.numbers)


def _worse_than_popularity(measured: Measurements, settings: GateSettings) -> Iterator[str]:
    if measured.popularity.difference.value < 0:
        yield f"worse than popularity: {_words(measured.popularity)}"
    for cohort, comparison in measured.cohorts.items():
        if comparison.queries >= settings.cohort_min_queries and comparison.difference.value < 0:
            yield f"worse than popularity in cohort {cohort}: {_words(comparison)}"


def _over_budget(measured: Measurements, settings: GateSettings) -> Iterator[str]:
    latency, size = measured.latency_p95_ms, measured.bundle_bytes / _MIB
    if latency > settings.max_latency_ms:
        yield (
            f"too slow: {latency:.1f} ms of processor time a query at p95, "
            f"the budget is {settings.max_latency_ms:g} ms"
        )
    if size > settings.max_bundle_mb:
        yield f"too large: a bundle of {size:.1f} MiB, the budget is {settings.max_bundle_mb:g} MiB"


def _implausible(measured: Measurements, settings: GateSettings) -> Iterator[str]:
    if measured.items > _LARGE_CATALOGUE and measured.hit_rate > settings.max_hit_rate:
        yield (
            f"too good to be true: HR@10 {measured.hit_rate:.3f} in a catalogue of "
            f"{measured.items:,} items, above {settings.max_hit_rate:g}: no person is that "
            "predictable, so scripted visitors may be in the data"
        )


def _narrower(
    measured: Measurements, champion: StandingChampion | None, settings: GateSettings
) -> Iterator[str]:
    before = measured.champion_coverage
    if champion is None or not champion.judged or before is None:
        return
    least = settings.min_coverage * before
    if measured.coverage < least:
        yield (
            f"fewer items shown: the lists of ten cover {100 * measured.coverage:.1f} % of the "
            f"catalogue, those of champion {champion.version} {100 * before:.1f} % for the same "
            f"questions, and {100 * least:.1f} % is the least"
        )


def _better(
    measured: Measurements, champion: StandingChampion | None, settings: GateSettings
) -> tuple[bool, str]:
    """Whether the challenger is worth a change, and why."""
    if champion is None:
        return (
            True,
            "there is no champion, and it is not worse than popularity: "
            f"{_words(measured.popularity)}",
        )
    if not champion.judged:
        return False, (
            f"champion {champion.version} came into service during the run, "
            "which did not compare with it"
        )
    compared, onset = measured.champion, measured.onset
    shift = f" since the shift of {format_time(onset)}" if onset is not None else ""
    if compared is None or compared.queries < settings.min_queries:
        return False, (
            f"only {compared.queries if compared else 0} test questions{shift} are newer than what "
            f"champion {champion.version} was fitted on, {settings.min_queries} are needed to "
            "compare"
        )
    found = _words(compared, measured.listed)
    low, margin, tolerance = (
        compared.difference.low,
        settings.margin * compared.other,
        settings.tolerance * compared.other,
    )
    if low > margin:
        return True, f"surely better than champion {champion.version}{shift}: {found}"
    old = champion.age_hours > settings.champion_max_age_hours
    if old and low > -tolerance:
        return True, (
            f"champion {champion.version} is {champion.age_hours:.0f} h old "
            f"(limit {settings.champion_max_age_hours:.0f} h) and the challenger is not "
            f"worse{shift} by more than {tolerance:.4f}: {found}"
        )
    limit = f"{-tolerance:.4f}, as the champion is old" if old else f"{margin:.4f}"
    return False, (
        f"not surely better than champion {champion.version}{shift}: {found}, "
        f"the lower end must be above {limit}"
    )


def _numbers(measured: Measurements, champion: StandingChampion | None) -> dict[str, float]:
    """All measurements by name."""
    numbers = {
        "latency_p95_ms": measured.latency_p95_ms,
        "bundle_bytes": float(measured.bundle_bytes),
        "visitors": float(measured.visitors),
        "items": float(measured.items),
        "hit_rate": measured.hit_rate,
        "coverage": measured.coverage,
        "listed": float(measured.listed),
    }
    compared = {"popularity": measured.popularity} | {
        f"popularity/{name}": comparison for name, comparison in measured.cohorts.items()
    }
    if champion:
        numbers["champion/age_hours"] = champion.age_hours
        if measured.champion and champion.judged:
            compared["champion"] = measured.champion
        if measured.champion_latency_p95_ms is not None and champion.judged:
            numbers["champion/latency_p95_ms"] = measured.champion_latency_p95_ms
        if measured.champion_coverage is not None and champion.judged:
            numbers["champion/coverage"] = measured.champion_coverage
    for other, comparison in compared.items():
        numbers |= {
            f"{other}/queries": float(comparison.queries),
            f"{other}/challenger": comparison.challenger,
            f"{other}/other": comparison.other,
            f"{other}/difference": comparison.difference.value,
            f"{other}/difference_low": comparison.difference.low,
            f"{other}/difference_high": comparison.difference.high,
        }
    return numbers


def _words(comparison: Comparison, listed: int = 0) -> str:
    difference = comparison.difference
    by_lists = f", {listed} of which lists led to" if listed else ""
    return (
        f"NDCG@10 {comparison.challenger:.4f} against {comparison.other:.4f} "
        f"on {comparison.queries} queries{by_lists}, difference {difference.value:+.4f} "
        f"[{difference.low:+.4f}, {difference.high:+.4f}]"
    )
