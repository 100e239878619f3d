"""Answers of a bundle to many queries, each asked singly through the stages that serve.

The offline evaluation of a file and the judging of a training run both ask here.
"""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped, unused-ignore]

from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.evaluation.metrics import UNRANKED, Lists, Ranks, Values, rank_in
from slipstream.models.base import History, Indices
from slipstream.recommender.bundle import Bundle, load_bundle, save_bundle
from slipstream.recommender.encoding import Query
from slipstream.recommender.new_items import LENDERS, NewItems
from slipstream.recommender.plan import ListRequest, OrderedCandidates
from slipstream.recommender.stages import CANDIDATES, RANKED, unwanted

_AT_ONCE = 250
# Fewer queries than this take less time than starting processes.
_WORTH_PROCESSES = 5_000


class Question(NamedTuple):
    """A query in the terms of one bundle. Items new to it are numbered from its catalogue on.

    Attributes:
        history: The history in known items.
        latest: Items of the history as it was, the latest first, -1 for one that is not known.
        exclude: Items that may not be shown.
        label: The item that came next; -1 where bundle and new items do not have it.
    """

    history: History
    latest: Sequence[int]
    exclude: Indices
    label: int


@dataclass(frozen=True)
class Answers:
    """Answers of one bundle, one entry a query.

    Attributes:
        ranks: Rank of the item that came next among the candidates as served, 0 for the first;
            UNRANKED where it is no candidate. Of equal scores, the item that comes first in the
            catalogue is first, and new ones are last.
        shown: Items of the lists, (queries, depth), as places in the bundle's catalogue, which new
            ones follow; -1 where a list is shorter.
        milliseconds: Processor time of each answer, from the query to the ordered list.
        ablated: Ranks by other orders of the candidates, (queries, 1 + 2 x retrievers): by the
            blend without the ranker, by each retriever alone, by the blend without each retriever.
            New items have no rank here. Without columns unless requested.
    """

    ranks: Ranks
    shown: Lists
    milliseconds: Values
    ablated: NDArray[np.int64]


Q = TypeVar("Q")


def question_of(
    bundle: Bundle, new: NewItems | None, query: Query, places: Indices | None = None
) -> Question:
    """The question of a query that is encoded in another catalogue, or in the bundle's own.
    `places` has the bundle's number of each item of the query's catalogue, which new items follow.
    None stands for the bundle's own.
    """
    if places is None:
        places = np.arange(len(bundle.item_ids), dtype=np.int32)
    history = query.history
    item = places[history.item]
    exclude = unwanted(bundle, history._replace(item=item))
    learned = bundle.repurchases
    if learned is not None and query.bought is not None:
        own = query.bought & (item < len(bundle.item_ids))
        rests = learned.resting(item[own], query.timestamp - history.timestamp[own])
        exclude = np.union1d(exclude, item[own][rests]).astype(np.int32)
    latest, chosen = item[::-1], np.flatnonzero(item < len(bundle.item_ids))
    item = item[chosen]
    if new is not None and not len(chosen):
        pairs = np.array(new.stand_ins(latest[::-1].tolist()), np.int64).reshape(-1, 2)
        chosen, item = pairs[:, 0], pairs[:, 1].astype(np.int32)
        latest = item[::-1]
    known = History(item, history.weight[chosen], history.timestamp[chosen])
    label = int(places[query.label]) if query.label >= 0 else -1
    return Question(known, latest.tolist(), exclude, label)


def predict(
    bundle: Bundle,
    queries: Sequence[Q],
    question: Callable[[Bundle, NewItems | None, Q], Question],
    depth: int,
    progress: Progress = lambda _: None,
    *,
    described: Sequence[Mapping[str, Any]] = (),
    ablation: bool = False,
    in_processes: bool = False,
) -> Answers:
    """Ask the bundle each query.

    Args:
        question: Puts a query in the terms of the bundle; its time counts as part of the answer.
        described: Attributes of the items that are new to the bundle, which compete, too.
        in_processes: Whether to use all processors where there are many queries; `question` is
            then a function of a module.
    """
    parts = [queries[begin : begin + _AT_ONCE] for begin in range(0, len(queries), _AT_ONCE)]
    answer = partial(_answer, question=question, depth=depth, ablation=ablation)
    progress(ProgressStep("predicting", 0, len(queries)))
    answers: list[Answers] = []
    if in_processes and len(queries) >= _WORTH_PROCESSES:
        answered = _in_pool(bundle, described, parts, answer)
    else:
        new = NewItems.of(bundle, described)
        answered = (answer(bundle, new, part) for part in parts)
    for part in answered:
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
    new: NewItems | None,
    queries: Sequence[Q],
    *,
    question: Callable[[Bundle, NewItems | None, Q], Question],
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
            asked = question(bundle, new, query)
            known = asked.exclude[asked.exclude < len(bundle.item_ids)]
            request = ListRequest(0, max(CANDIDATES, depth), max(RANKED, depth))
            candidates = bundle.plan.candidates(asked.history, request, known)
            items, score = _with_new(candidates, asked, new)
            best = items[np.argsort(-score, kind="stable")[:depth]]
            milliseconds[row] = (time.process_time_ns() - began) / 1e6
            shown[row, : len(best)] = best
            for place in np.flatnonzero(items == asked.label).tolist():
                ranks[row] = rank_in(score[:, None], place)[0]
                if ablation and place < len(candidates.items):
                    ablated[row] = rank_in(candidates.features @ weights, place)
    return Answers(ranks, shown, milliseconds, ablated)


def _with_new(
    candidates: OrderedCandidates, asked: Question, new: NewItems | None
) -> tuple[Indices, Values]:
    """The candidates, then the new items that have a score, and the scores of all."""
    order = candidates.order.astype(np.float64)
    if new is None or not len(new) or not len(order):
        return candidates.items, order
    best = np.argsort(-order, kind="stable")[:LENDERS]
    share = np.exp(order - order[best[0]])  # 0 for those that the ranker did not look at
    share /= share.sum()
    lenders, lent = candidates.items[best].tolist(), share[best].tolist()
    own = new.shares.scores(lenders, lent, asked.latest, candidates.state)
    numbers = new.shares.numbers
    shown = np.flatnonzero((own > 0) & ~np.isin(numbers, asked.exclude))
    shown = shown[np.argsort(numbers[shown])]
    items = np.concatenate((candidates.items, numbers[shown]))
    return items, np.concatenate((share, own[shown]))


def _other_weights(bundle: Bundle) -> NDArray[np.float32]:
    """Exponents as columns: of the blend, of each retriever alone, of the blend without each."""
    alone = np.eye(len(bundle.retrievers), dtype=np.float32)
    blend = bundle.blend.weights[:, None]
    return np.hstack((blend, alone, blend * (1 - alone)))


def _in_pool(
    bundle: Bundle,
    described: Sequence[Mapping[str, Any]],
    parts: Sequence[Sequence[Q]],
    answer: "partial[Answers]",
) -> Iterator[Answers]:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "bundle"
        save_bundle(bundle, directory)  # the processes load it as serving would
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(os.cpu_count(), context, _load, (directory, described)) as pool:
            yield from pool.map(partial(_of_loaded, answer), parts)


_loaded: list[tuple[Bundle, NewItems | None]] = []


def _load(directory: Path, described: Sequence[Mapping[str, Any]]) -> None:
    bundle = load_bundle(directory)
    _loaded.append((bundle, NewItems.of(bundle, described)))


def _of_loaded(answer: "partial[Answers]", queries: Sequence[Q]) -> Answers:
    return answer(*_loaded[0], queries)
