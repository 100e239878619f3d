"""How good is a bundle: what it would have recommended at moments of the past, through the stages
that serve.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped, unused-ignore]

from services.training.gate import Comparison, Measurements
from services.training.run.dataset import Moment
from slipstream.evaluation.cohorts import ALL, cohorts
from slipstream.evaluation.figures import DEPTH, Figures, K, Past, figures
from slipstream.evaluation.metrics import UNRANKED, Values, ndcg
from slipstream.evaluation.significance import bootstrap_difference
from slipstream.models.blend import initial_blend
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.stages import Event, recommend

CHALLENGER, CHAMPION, POPULARITY = "challenger", "champion", "popularity"

# Of each contestant, for each cohort.
ByCohort: TypeAlias = dict[str, dict[str, Figures]]


@dataclass(frozen=True)
class Answers:
    """One bundle's answers, one entry a query. `shown` has indices into the catalogue of the
    judgement, negative where the list was shorter or had an item that is not in it (any more);
    `milliseconds` is the processor time of each answer.
    """

    ranks: NDArray[np.int64]
    shown: NDArray[np.int32]
    milliseconds: Values

    def latency_p95_ms(self) -> float:
        return float(np.quantile(self.milliseconds, 0.95))


def judge(
    bundle: Bundle,
    queries: Sequence[Moment],
    index: Mapping[str, int],
    step: Callable[[], None] = lambda: None,
) -> Answers:
    """Ask the bundle for each moment's next item, one at a time as serving does. Its whole
    catalogue competes; an item that it does not know is a miss. `index` is the catalogue of the
    judgement: item id to place.

    Processor time, of all threads of the process, and not time on the clock: a run gives way to
    what serves beside it, and how busy that is must not decide about a model.
    """
    ranks = np.full(len(queries), UNRANKED, np.int64)
    shown = np.full((len(queries), DEPTH), -1, np.int32)
    milliseconds = np.zeros(len(queries))
    for place, query in enumerate(queries):
        history = [Event(*event) for event in query.state.sequence]
        began = time.process_time_ns()
        found = [one.item_id for one in recommend(bundle, history, DEPTH)]
        milliseconds[place] = (time.process_time_ns() - began) / 1e6
        shown[place, : len(found)] = [index.get(item_id, -1) for item_id in found]
        if query.item_id in found:
            ranks[place] = found.index(query.item_id)
        step()
    return Answers(ranks, shown, milliseconds)


def popularity_of(bundle: Bundle) -> Bundle:
    """The bundle's popularity alone: the least that a personal model must reach."""
    popularity = bundle.retrievers["popularity"]
    return Bundle(
        bundle.manifest,
        bundle.item_ids,
        {"popularity": popularity},
        initial_blend([popularity.logarithmic]),
        event_weights=bundle.event_weights,
        repeats=bundle.repeats,
    )


@dataclass(frozen=True)
class Judgement:
    """The answers of all contestants, `challenger` and `popularity` among them, to the same
    queries, and what they say.

    `cohorts` are masks over the queries, `past` is what had happened before them.
    """

    judged: Mapping[str, Answers]
    cohorts: Mapping[str, NDArray[np.bool_]]
    past: Past
    seed: int

    def figures(self) -> ByCohort:
        return {
            name: figures(one.ranks, one.shown, self.past, self.cohorts, self.seed)
            for name, one in self.judged.items()
        }

    def compare(self, other: str, cohort: str = ALL) -> Comparison:
        """The challenger and another on the queries of a cohort."""
        keep = self.cohorts[cohort]
        ours, theirs = (ndcg(self.judged[name].ranks[keep], K) for name in (CHALLENGER, other))
        return Comparison(
            len(ours),
            float(ours.mean()),
            float(theirs.mean()),
            bootstrap_difference(ours, theirs, self.seed),
        )

    def measured(self, bundle_bytes: int) -> Measurements:
        """What the gate decides on."""
        champion = self.judged.get(CHAMPION)
        return Measurements(
            popularity=self.compare(POPULARITY),
            latency_p95_ms=self.judged[CHALLENGER].latency_p95_ms(),
            bundle_bytes=bundle_bytes,
            cohorts={name: self.compare(POPULARITY, name) for name in self.cohorts if name != ALL},
            champion=self.compare(CHAMPION) if champion else None,
            champion_latency_p95_ms=champion.latency_p95_ms() if champion else None,
        )


def judge_all(
    contestants: Mapping[str, Bundle],
    queries: Sequence[Moment],
    past: Past,
    seed: int,
    step: Callable[[], None] = lambda: None,
) -> Judgement:
    """Ask them all, with one thread for linear algebra, as serving has it: so small a product is
    slower on more.

    The challenger's catalogue is that of the judgement: of `past`, and of what the queries ask for.
    """
    index = contestants[CHALLENGER].index
    labels = [index[str(query.item_id)] for query in queries]
    known = np.array([len(query.state.sequence) for query in queries])
    with threadpool_limits(1, user_api="blas"):
        judged = {name: judge(bundle, queries, index, step) for name, bundle in contestants.items()}
    return Judgement(judged, cohorts(known, past.counts()[labels]), past, seed)


def flat(found: ByCohort) -> dict[str, float]:
    """Figures under one name each: the challenger's `ndcg@10` and `cohort/new/ndcg@10`, the others'
    `popularity/ndcg@10`.
    """
    return {
        f"{prefix}{name}": value
        for prefix, one in _named(found)
        for name, value in one.values().items()
    }


def intervals(found: ByCohort) -> dict[str, list[float]]:
    """Both ends of the interval of each figure that has one, under the names of `flat`."""
    return {
        f"{prefix}{name}": [mean.low, mean.high]
        for prefix, one in _named(found)
        for name, mean in one.means.items()
    }


def _named(found: ByCohort) -> Iterator[tuple[str, Figures]]:
    for contestant, by_cohort in found.items():
        if contestant == CHALLENGER:
            yield from (
                ("" if cohort == ALL else f"cohort/{cohort}/", one)
                for cohort, one in by_cohort.items()
            )
        else:
            yield f"{contestant}/", by_cohort[ALL]
