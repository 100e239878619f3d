"""What a bundle answers to many queries, each singly, through the stages that serve; on all
processors where there are many.
"""

import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped, unused-ignore]

from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.evaluation import metrics
from slipstream.recommender.bundle import Bundle, load_bundle, save_bundle
from slipstream.recommender.encoding import Query
from slipstream.recommender.stages import RANKED, rank, shortlist, unwanted

Answers = tuple[NDArray[np.int64], NDArray[np.int32]]

_AT_ONCE = 500
# So many queries take longer than starting a process.
_WORTH_PROCESSES = 5_000


def predict(bundle: Bundle, asked: Sequence[Query], depth: int, progress: Progress) -> Answers:
    """The label's rank for each query, in columns: as served, by the blend, by each retriever
    alone, by the blend without each; and the lists of `depth` items, filled up with -1. `progress`
    tells how many portions are done.

    Ties go to the item that comes first in the catalogue, as they do in serving.
    """
    parts = [asked[begin : begin + _AT_ONCE] for begin in range(0, len(asked), _AT_ONCE)]
    answers: list[Answers] = []

    def note(answer: Answers) -> None:
        answers.append(answer)
        progress(ProgressStep("predicting", len(answers), len(parts)))

    progress(ProgressStep("predicting", 0, len(parts)))
    if len(asked) < _WORTH_PROCESSES:
        for part in parts:
            note(_answers(bundle, part, depth))
    else:
        with tempfile.TemporaryDirectory() as folder:
            # What the processes load is what serving would.
            save_bundle(bundle, Path(folder) / "bundle")
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(
                os.cpu_count(), context, _load, (Path(folder) / "bundle",)
            ) as pool:
                for answer in pool.map(_of_loaded, parts, [depth] * len(parts)):
                    note(answer)
    ranks, shown = zip(*answers, strict=True)
    return np.concatenate(ranks), np.concatenate(shown)


def _answers(bundle: Bundle, asked: Sequence[Query], depth: int) -> Answers:
    weights = _variants(bundle)
    ranks = np.full((len(asked), 1 + weights.shape[1]), metrics.UNRANKED, np.int64)
    shown = np.full((len(asked), depth), -1, np.int32)
    with threadpool_limits(
        1
    ):  # as in serving: for vectors so small a second thread costs more than it does
        for row, query in enumerate(asked):
            candidates = shortlist(
                bundle, query.history, depth, exclude=unwanted(bundle, query.history)
            )
            ranked = rank(bundle, query.history, candidates, max(RANKED, depth))
            best = np.argsort(-ranked, kind="stable")[:depth]
            shown[row, : len(best)] = candidates.items[best]
            for place in np.flatnonzero(candidates.items == query.label):
                scores = np.hstack((ranked[:, None], candidates.features @ weights))
                ranks[row] = metrics.rank_in(scores, int(place))
    return ranks, shown


def _variants(bundle: Bundle) -> NDArray[np.float32]:
    """The exponents of the blend, of each retriever alone, and of the blend without each, as
    columns.
    """
    alone = np.eye(len(bundle.retrievers), dtype=np.float32)
    whole = bundle.blend.weights[:, None]
    return np.hstack((whole, alone, whole * (1 - alone)))


_loaded: list[Bundle] = []


def _load(directory: Path) -> None:
    _loaded.append(load_bundle(directory))


def _of_loaded(asked: Sequence[Query], depth: int) -> Answers:
    return _answers(_loaded[0], asked, depth)
