"""Judging of bundles: challenger, champion and popularity answer the same moments of the past.

Each is asked through the stages that serve, by `slipstream.recommender.predict`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.training.gate import Comparison, Measurements
from services.training.run.dataset import Moment
from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.evaluation.figures import ALL, DEPTH, Figures, K, Past, cohorts, figures
from slipstream.evaluation.metrics import coverage, hit_rate, ndcg
from slipstream.evaluation.significance import bootstrap_difference
from slipstream.models.blend import initial_blend
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.new_items import NewItems
from slipstream.recommender.predict import Answers, Question, predict
from slipstream.recommender.stages import Event, encode_history, resting

CHALLENGER, CHAMPION, POPULARITY = "challenger", "champion", "popularity"

# Figures by contestant, then by cohort.
ByCohort: TypeAlias = dict[str, dict[str, Figures]]


def ask(
    bundle: Bundle,
    queries: Sequence[Moment],
    index: Mapping[str, int],
    attributes: Mapping[str, Mapping[str, Any]],
    progress: Progress = lambda _: None,
    hiding: Bundle | None = None,
) -> Answers:
    """The bundle's answers to the question which item comes next at each moment.

    The whole catalogue competes, with the items that are new to the bundle, as in service. `index`
    is the catalogue of the judgement, item id to place: `shown` of the answers has its places, and
    -1 for an item that is not in it (any more). `attributes` are those of all items.

    Bought items rest as `hiding` has learned, by default the bundle itself.

    The time of an answer is processor time, of all threads of the process: a run gives way to
    services on the same machine, and their load must not decide about a model. Nor must the time to
    load compiled kernels, so the first question is asked once in advance.
    """
    unknown = [item_id for item_id in attributes if item_id not in bundle.index]
    new = {item_id: number for number, item_id in enumerate(unknown, len(bundle.item_ids))}
    question = partial(_question, numbers=new, hiding=hiding or bundle)
    described = [attributes[item_id] for item_id in unknown]
    predict(bundle, queries[:1], question, DEPTH)
    answers = predict(bundle, queries, question, DEPTH, progress, described=described)
    items = (*bundle.item_ids, *unknown)
    places = np.array([*(index.get(item_id, -1) for item_id in items), -1], np.int32)
    return replace(answers, shown=places[answers.shown])


def _question(
    bundle: Bundle,
    new: NewItems | None,
    moment: Moment,
    *,
    numbers: Mapping[str, int],
    hiding: Bundle,
) -> Question:
    def number(item_id: str) -> int:
        return bundle.index.get(item_id, numbers.get(item_id, -1))

    events: Sequence[Event] = [Event(*event) for event in moment.state.sequence]
    met = [event.item_id for event in events]
    rests = resting(hiding, events, moment.timestamp).bought if bundle.repeats else met
    exclude = sorted({number(item_id) for item_id in rests} - {-1})
    if new is not None:
        events = new.in_known_items(events, [number(item_id) for item_id in met], bundle)
    latest = [number(event.item_id) for event in reversed(events)]
    label = number(moment.item_id or "")
    return Question(encode_history(bundle, events), latest, np.array(exclude, np.int32), label)


def latency_p95_ms(answers: Answers) -> float:
    """The processor time of an answer at the 95th percentile."""
    return float(np.quantile(answers.milliseconds, 0.95))


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
    """The answers of all contestants to the same queries, and the figures that follow.

    Attributes:
        answers: Answers by contestant, `challenger` and `popularity` among them.
        cohorts: Masks over the queries.
        past: Events before the queries.
        visitors: Number of visitors that the queries are about.
        seed: Seed of the bootstrap.
    """

    answers: Mapping[str, Answers]
    cohorts: Mapping[str, NDArray[np.bool_]]
    past: Past
    visitors: int
    seed: int

    def figures(self) -> ByCohort:
        """Every figure of each contestant, by cohort."""
        return {
            name: figures(answers.ranks, answers.shown, self.past, self.cohorts, self.seed)
            for name, answers in self.answers.items()
        }

    def compare(self, other: str, cohort: str = ALL) -> Comparison:
        """The challenger and another contestant on the queries of a cohort."""
        keep = self.cohorts[cohort]
        ours, theirs = (ndcg(self.answers[name].ranks[keep], K) for name in (CHALLENGER, other))
        return Comparison(
            len(ours),
            float(ours.mean()),
            float(theirs.mean()),
            bootstrap_difference(ours, theirs, self.seed),
        )

    def measurements(
        self, bundle_bytes: int, onset: int | None = None, listed: int = 0
    ) -> Measurements:
        """The measurements that the gate decides on.

        Args:
            bundle_bytes: Size of the challenger's bundle.
            onset: When the shift began that the queries are from after (ms); None without one.
            listed: Number of queries that lists led to.
        """
        champion = self.answers.get(CHAMPION)
        covered = {
            name: coverage(answers.shown[:, :K], self.past.n_items)
            for name, answers in self.answers.items()
        }
        return Measurements(
            popularity=self.compare(POPULARITY),
            latency_p95_ms=latency_p95_ms(self.answers[CHALLENGER]),
            bundle_bytes=bundle_bytes,
            cohorts={name: self.compare(POPULARITY, name) for name in self.cohorts if name != ALL},
            champion=self.compare(CHAMPION) if champion else None,
            champion_latency_p95_ms=latency_p95_ms(champion) if champion else None,
            visitors=self.visitors,
            items=self.past.n_items,
            hit_rate=float(hit_rate(self.answers[CHALLENGER].ranks, K).mean()),
            coverage=covered[CHALLENGER],
            champion_coverage=covered.get(CHAMPION),
            onset=onset,
            listed=listed,
        )


def judge(
    contestants: Mapping[str, Bundle],
    queries: Sequence[Moment],
    past: Past,
    item_ids: Sequence[str],
    attributes: Mapping[str, Mapping[str, Any]],
    seed: int,
    progress: Progress = lambda _: None,
) -> Judgement:
    """Ask all contestants the same queries.

    Bought items rest for all as the challenger has learned: models are compared, not what they
    hide, and a champion may be older than that.

    Args:
        contestants: Bundles by name, `challenger` and `popularity` among them.
        queries: Moments with an item of the catalogue.
        past: Events before the queries, in the same catalogue.
        attributes: Attributes of all items, by which those compete that are new to a contestant.
        progress: Gets the number of questions answered, of all contestants together.
    """
    index = {item_id: place for place, item_id in enumerate(item_ids)}
    labels = [index[str(query.item_id)] for query in queries]
    known = np.array([len(query.state.sequence) for query in queries])
    total = len(contestants) * len(queries)

    def note(before: int, step: ProgressStep) -> None:
        progress(ProgressStep(f"{total:,} questions", before + step.done, total))

    answers = {
        name: ask(
            bundle,
            queries,
            index,
            attributes,
            partial(note, number * len(queries)),
            hiding=contestants[CHALLENGER],
        )
        for number, (name, bundle) in enumerate(contestants.items())
    }
    visitors = len({query.user_id for query in queries})
    return Judgement(answers, cohorts(known, past.counts()[labels]), past, visitors, seed)


def flat(by_contestant: ByCohort) -> dict[str, float]:
    """Figures under one name each: the challenger's `ndcg@10` and `cohort/new/ndcg@10`, the others'
    `popularity/ndcg@10`.
    """
    return {
        f"{prefix}{name}": value
        for prefix, of_queries in _named(by_contestant)
        for name, value in of_queries.values().items()
    }


def intervals(by_contestant: ByCohort) -> dict[str, tuple[float, float]]:
    """Both ends of the interval of each figure that has one, under the names of `flat`."""
    return {
        f"{prefix}{name}": (mean.low, mean.high)
        for prefix, of_queries in _named(by_contestant)
        for name, mean in of_queries.means.items()
    }


def _named(by_contestant: ByCohort) -> Iterator[tuple[str, Figures]]:
    for contestant, by_cohort in by_contestant.items():
        if contestant == CHALLENGER:
            yield from (
                ("" if cohort == ALL else f"cohort/{cohort}/", of_queries)
                for cohort, of_queries in by_cohort.items()
            )
        else:
            yield f"{contestant}/", by_cohort[ALL]
