"""Answers of a bundle to many queries, each asked singly through the stages that serve.

The offline evaluation of a file and the judging of a training run both ask here.
"""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped, unused-ignore]

from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.evaluation.metrics import UNRANKED, Lists, Ranks, Values, rank_in
from slipstream.models.base import History, Indices
from slipstream.recommender.bundle import Bundle, load_bundle, save_bundle
from slipstream.recommender.encoding import Query
from slipstream.recommender.plan import ListRequest
from slipstream.recommender.stages import CANDIDATES, RANKED, unwanted

_AT_ONCE = 250
# Fewer queries than this take less time than starting processes.
_WORTH_PROCESSES = 5_000


class Question(NamedTuple):
    """A query in the terms of one bundle.

    `exclude` has the items that may not be shown, `label` the place of the item that came
    next in the bundle's catalogue, -1 where it is not there.
    """

    history: History
    exclude: Indices
    label: int


@dataclass(frozen=True)
class Answers:
    """Answers of one bundle, one entry a query.

    Attributes:
        ranks: Rank of the item that came next among the candidates as served, 0 for the first;
            UNRANKED where it is no candidate. Of equal scores, the item that comes first in the
            catalogue is first.
        shown: Items of the lists, (queries, depth), as places in the bundle's catalogue; -1 where a
            list is shorter.
        milliseconds: Processor time of each answer, from the query to the ordered list.
        ablated: Ranks by other orders of the candidates, (queries, 1 + 2 x retrievers): by the
            blend without the ranker, by each retriever alone, by the blend without each retriever.
            Without columns unless requested.
    """

    ranks: Ranks
    shown: Lists
    milliseconds: Values
    ablated: NDArray[np.int64]


Q = TypeVar("Q")


def question_of(bundle: Bundle, query: Query) -> Question:
    """The question of a query that is encoded in the bundle's own catalogue."""
    history, learned = query.history, bundle.repurchases
    exclude = unwanted(bundle, history)
    if learned is not None and query.bought is not None:
        items, times = history.item[query.bought], history.timestamp[query.bought]
        rests = learned.resting(items, query.timestamp - times)
        exclude = np.union1d(exclude, items[rests]).astype(np.int32)
    return Question(history, exclude, query.label)


def predict(
    bundle: Bundle,
    queries: Sequence[Q],
    question: Callable[[Bundle, Q], Question],
    depth: int,
    progress: Progress = lambda _: None,
    *,
    ablation: bool = False,
    in_processes: bool = False,
) -> Answers:
    """Ask the bundle each query.

    Args:
        bundle: Bundle to ask.
        queries: Queries of any kind.
        question: Puts a query in the terms of the bundle; its time counts as part of the answer.
        depth: Length of the lists.
        progress: Gets the number of queries answered so far.
        ablation: Whether to rank by other orders of the candidates, too.
        in_processes: Whether to use all processors where there are many queries; `question` is
            then a function of a module.
    """
    parts = [queries[begin : begin + _AT_ONCE] for begin in range(0, len(queries), _AT_ONCE)]
    answer = partial(_answer, question=question, depth=depth, ablation=ablation)
    progress(ProgressStep("predicting", 0, len(queries)))
    answers: list[Answers] = []
    many = in_processes and len(queries) >= _WORTH_PROCESSES
    for part in _in_pool(bundle, parts, answer) if many else (answer(bundle, p) for p in parts):
        answers.append(part)
        progress(ProgressStep("predicting", sum(len(a.ranks) for a in answers), len(queries)))
    return Answers(
        np.concatenate([part.ranks for part in answers]),
        np.concatenate([part.shown for part in answers]),
        np.concatenate([part.milliseconds for part in answers]),
        np.concatenate([part.ablated for part in answers]),
    )


def _answer(
    bundle: Bundle,
    queries: Sequence[Q],
    *,
    question: Callable[[Bundle, Q], Question],
    depth: int,
    ablation: bool,
) -> Answers:
    weights = (
        _other_weights(bundle) if ablation else np.empty((len(bundle.retrievers), 0), np.float32)
    )
    ranks = np.full(len(queries), UNRANKED, np.int64)
    ablated = np.full((len(queries), weights.shape[1]), UNRANKED, np.int64)
    shown = np.full((len(queries), depth), -1, np.int32)
    milliseconds = np.zeros(len(queries))
    # One thread, as in serving: for vectors so small, a second one costs more than it saves.
    with threadpool_limits(1):
        for row, query in enumerate(queries):
            began = time.process_time_ns()
            history, exclude, label = question(bundle, query)
            asked = ListRequest(0, max(CANDIDATES, depth), max(RANKED, depth))
            candidates = bundle.plan.candidates(history, asked, exclude)
            score = candidates.order
            best = candidates.items[np.argsort(-score, kind="stable")[:depth]]
            milliseconds[row] = (time.process_time_ns() - began) / 1e6
            shown[row, : len(best)] = best
            for place in np.flatnonzero(candidates.items == label).tolist():
                ranks[row] = rank_in(score[:, None], place)[0]
                if ablation:
                    ablated[row] = rank_in(candidates.features @ weights, place)
    return Answers(ranks, shown, milliseconds, ablated)


def _other_weights(bundle: Bundle) -> NDArray[np.float32]:
    """Exponents as columns: of the blend, of each retriever alone, of the blend without each."""
    alone = np.eye(len(bundle.retrievers), dtype=np.float32)
    blend = bundle.blend.weights[:, None]
    return np.hstack((blend, alone, blend * (1 - alone)))


def _in_pool(
    bundle: Bundle, parts: Sequence[Sequence[Q]], answer: "partial[Answers]"
) -> Iterator[Answers]:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "bundle"
        save_bundle(bundle, directory)  # the processes load it as serving would
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(os.cpu_count(), context, _load, (directory,)) as pool:
            yield from pool.map(partial(_of_loaded, answer), parts)


_loaded: list[Bundle] = []


def _load(directory: Path) -> None:
    _loaded.append(load_bundle(directory))


def _of_loaded(answer: "partial[Answers]", queries: Sequence[Q]) -> Answers:
    return answer(_loaded[0], queries)
