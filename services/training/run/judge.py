"""Judging of bundles: challenger, champion and popularity answer the same moments of the past.

Each is asked through the stages that serve, by `slipstream.recommender.predict`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

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
from slipstream.recommender.predict import Answers, Question, predict
from slipstream.recommender.stages import Event, encode_history, item_numbers, resting

CHALLENGER, CHAMPION, POPULARITY = "challenger", "champion", "popularity"

# Figures by contestant, then by cohort.
ByCohort: TypeAlias = dict[str, dict[str, Figures]]


def ask(
    bundle: Bundle,
    queries: Sequence[Moment],
    index: Mapping[str, int],
    progress: Progress = lambda _: None,
    hiding: Bundle | None = None,
) -> Answers:
    """The bundle's answers to the question which item comes next at each moment.

    The bundle's whole catalogue competes; an item that it does not know is a miss. `index` is the
    catalogue of the judgement, item id to place: `shown` of the answers has its places, and -1 for
    an item that is not in it (any more).

    Bought items rest as `hiding` has learned, by default the bundle itself.

    The time of an answer is processor time, of all threads of the process: a run gives way to
    services on the same machine, and their load must not decide about a model. Nor must the time to
    load compiled kernels, so the first question is asked once in advance.
    """
    question = partial(_question, hiding=hiding or bundle)
    predict(bundle, queries[:1], question, DEPTH)
    answers = predict(bundle, queries, question, DEPTH, progress)
    places = np.array([*(index.get(item_id, -1) for item_id in bundle.item_ids), -1], np.int32)
    return replace(answers, shown=places[answers.shown])


def _question(bundle: Bundle, moment: Moment, *, hiding: Bundle) -> Question:
    events = [Event(*event) for event in moment.state.sequence]
    met = (event.item_id for event in events)
    rests = resting(hiding, events, moment.timestamp).bought if bundle.repeats else met
    seen = item_numbers(bundle, rests)
    exclude = np.fromiter(seen, np.int32, len(seen))
    label = bundle.index.get(moment.item_id or "", -1)
    return Question(encode_history(bundle, events), exclude, label)


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

    def measurements(self, bundle_bytes: int) -> Measurements:
        """The measurements that the gate decides on; `bundle_bytes` is the challenger's size."""
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
        )


def judge(
    contestants: Mapping[str, Bundle],
    queries: Sequence[Moment],
    past: Past,
    seed: int,
    progress: Progress = lambda _: None,
) -> Judgement:
    """Ask all contestants the same queries.

    Bought items rest for all as the challenger has learned: models are compared, not what they
    hide, and a champion may be older than that.

    Args:
        contestants: Bundles by name, `challenger` and `popularity` among them.
        queries: Moments with an item of the challenger's catalogue, that of the judgement.
        past: Events before the queries, in the same catalogue.
        seed: Seed of the bootstrap.
        progress: Gets the number of questions answered, of all contestants together.
    """
    index = contestants[CHALLENGER].index
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
