"""Holdout of a fit: events that parameters are chosen on, and events that models are fitted on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slipstream.evaluation.splits import history_starts, split_at, time_split
from slipstream.models.base import InteractionLog
from slipstream.models.repurchases import of_resting
from slipstream.recommender.encoding import Query

# Most questions of a test about one visitor, so that a few with many events don't choose a model.
QUESTIONS_A_VISITOR = 3
_VALIDATION_SHARE = 0.1


@dataclass(frozen=True)
class Holdout:
    """Rows of the log, by their purpose in a fit.

    Attributes:
        training: Rows that models are fitted on while parameters are chosen.
        validation: Rows that those models predict; parameters, blend and ranker come from them.
        final: Rows that the models of the bundle are fitted on, with the parameters chosen.
    """

    training: NDArray[np.int64]
    validation: NDArray[np.int64]
    final: NDArray[np.int64]

    def among(self, kept: NDArray[np.bool_]) -> "Holdout":
        """The rows that are kept, numbered among them."""
        place = np.cumsum(kept) - 1
        parts = self.training, self.validation, self.final
        return Holdout(*(place[rows[kept[rows]]] for rows in parts))


def newest_events(log: InteractionLog, onset: int | None = None, least: int = 1) -> Holdout:
    """The holdout of a fit for service: the last tenth of the events by time is validation.

    The final models are fitted on everything. Events on an item that rested are no questions:
    serving hides it, so no list could have led to them.

    Args:
        onset: When a shift began (ms); None without one. At most half of the events since then are
            validation, so that the choice is between models that have seen the shift.
        least: Fewest events that the half must have; with fewer, the tenth is validation.
    """
    split = time_split(log.user, log.timestamp, _VALIDATION_SHARE)
    if onset is not None:
        newer = np.sort(log.timestamp[log.timestamp >= onset])
        half = len(newer) // 2
        if half >= least and newer[half] > log.timestamp[split.training].max(initial=0):
            split = split_at(log.user, log.timestamp, int(newer[half]))
    asked = split.test[~of_resting(log)[split.test]]
    return Holdout(split.training, asked, np.arange(len(log)))


def sample(rows: NDArray[np.int64], size: int, seed: int) -> NDArray[np.int64]:
    """At most `size` of the rows, drawn at random, in their order."""
    if len(rows) <= size:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, size, replace=False))


def over_visitors(
    rows: NDArray[np.int64], visitors: NDArray[np.int32], size: int, seed: int
) -> NDArray[np.int64]:
    """At most `size` of the rows, in their order, and at most `QUESTIONS_A_VISITOR` of a visitor.

    They are drawn at random: one of each visitor, then a second and a third one.
    """
    drawn = np.random.default_rng(seed).permutation(len(rows))
    drawn = drawn[np.argsort(visitors[drawn], kind="stable")]
    turn = np.arange(len(rows)) - history_starts(visitors[drawn])
    in_turn = np.argsort(turn, kind="stable")[: np.count_nonzero(turn < QUESTIONS_A_VISITOR)]
    return np.sort(rows[drawn[in_turn[:size]]])


def evenly(queries: Sequence[Query], size: int) -> Sequence[Query]:
    """At most `size` of the queries, evenly spread."""
    return queries[:: max(1, -(-len(queries) // size))]


def whole_visitors(log: InteractionLog, events: int, seed: int) -> InteractionLog:
    """The whole histories of visitors drawn at random, of at most `events` events together."""
    if len(log) <= events:
        return log
    counts = np.bincount(log.user)
    drawn = np.random.default_rng(seed).permutation(len(counts))
    some = drawn[: np.searchsorted(counts[drawn].cumsum(), events, side="right")]
    return log.select(np.isin(log.user, some))
