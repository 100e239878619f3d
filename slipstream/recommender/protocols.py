"""Protocols of offline evaluation: splits of a file into events to fit on and queries.

They are leave-last-out, next-click and time-split, as `slipstream.evaluation.splits` defines them,
and discovery: a time-split that asks for the items that a visitor has not met yet.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from slipstream.contracts.times import DAY_MS
from slipstream.evaluation import splits
from slipstream.evaluation.figures import Past
from slipstream.models.base import History, InteractionLog
from slipstream.recommender import encoding
from slipstream.recommender.encoding import Query
from slipstream.recommender.holdout import Holdout, sample
from slipstream.recommender.profiles import PROFILES

PROTOCOLS = ("leave-last-out", "next-click", "time-split", "discovery")
# Most queries that are asked, drawn at random.
MOST_QUERIES = 100_000
_TEST_SHARE = 0.2
_VALIDATION_SESSIONS = 5_000
# Further validation events of each visitor where visitors are few, so that the choice of parameters
# is less uncertain. No model is fitted on an event that it predicts; the final models are fitted on
# all of these.
_FURTHER_VALIDATION = 3


@dataclass(frozen=True)
class Task:
    """A file as a protocol splits it.

    Attributes:
        log: Events that may be fitted on.
        holdout: Rows of the log to choose parameters on; None leaves it to the fit.
        repeats: Whether items of the history may be recommended again; None leaves it to the data.
        asked: Rows of the file's log that the queries ask for; None where a file has the queries.
    """

    log: InteractionLog
    holdout: Holdout | None
    queries: Sequence[Query]
    repeats: bool | None
    asked: NDArray[np.int64] | None

    @property
    def past(self) -> Past:
        """The events before the queries."""
        log = self.log.select(self.holdout.final) if self.holdout else self.log
        return Past(log.user, log.item, log.n_items)

    def only(self, kept: NDArray[np.bool_]) -> "Task":
        """The task with these events of the log alone; its queries stay."""
        return replace(
            self,
            log=self.log.select(kept),
            holdout=self.holdout.among(kept) if self.holdout else None,
        )


def task_of(
    protocol: str,
    log: InteractionLog,
    prefixes: Sequence[Query],
    profile: str,
    last_days: float | None,
    seed: int = 0,
) -> Task:
    """The file as the protocol splits it.

    Args:
        last_days: Days at the end that a time-split or discovery holds out; None holds out a fifth
            of the events.
        seed: Seed of the sample where there are more than `MOST_QUERIES` queries.

    Raises:
        ValueError: A time-split leaves nothing to fit on.
    """
    if protocol == "leave-last-out":
        return _leave_last_out(log, PROFILES[profile].ranking_queries, seed)
    if protocol in ("time-split", "discovery"):
        return _time_split(log, last_days, seed, discovery=protocol == "discovery")
    split = splits.next_click(log.user, log.timestamp, _VALIDATION_SESSIONS)
    everything = np.arange(len(log))
    holdout = Holdout(split.training, split.validation, everything)
    asked = [prefixes[row] for row in sample(np.arange(len(prefixes)), MOST_QUERIES, seed)]
    return Task(_by_position(log), holdout, asked, repeats=True, asked=None)


def first_meetings(log: InteractionLog) -> NDArray[np.bool_]:
    """Whether each event is its visitor's first on its item."""
    pairs = log.user.astype(np.int64) * log.n_items + log.item
    first = np.zeros(len(log), np.bool_)
    first[np.unique(pairs, return_index=True)[1]] = True
    return first


def led_on(log: InteractionLog) -> NDArray[np.bool_]:
    """Whether each event is its visitor's first on an item that was put into the cart or bought."""
    if log.basket is None:
        return np.zeros(len(log), np.bool_)
    pairs = log.user.astype(np.int64) * log.n_items + log.item
    return first_meetings(log) & np.isin(pairs, pairs[log.basket])


def without_items(task: Task, hidden: NDArray[np.bool_], left: int) -> Task:
    """The task without the events of hidden items but the first `left` of each, by time.

    Those are events that the final models are fitted on: parameters are not chosen by hidden items.
    """
    log = task.log
    final = np.ones(len(log), np.bool_)
    if task.holdout:
        final[np.setdiff1d(np.arange(len(log)), task.holdout.final)] = False
    order = np.lexsort((log.timestamp, ~final, log.item))
    place = np.empty(len(log), np.int64)
    place[order] = np.arange(len(log)) - np.searchsorted(log.item[order], log.item[order])
    return task.only(~hidden[log.item] | (final & (place < left)))


def _leave_last_out(log: InteractionLog, validation_queries: int, seed: int) -> Task:
    split = splits.leave_last_out(log.user)
    scarce = len(split.validation) < validation_queries
    inner = splits.hold_out_last(log.user[split.training], _FURTHER_VALIDATION if scarce else 0)
    validation = np.sort(np.concatenate((split.validation, split.training[inner.validation])))
    holdout = Holdout(split.training[inner.training], validation, split.training)
    asked = sample(split.test, MOST_QUERIES, seed)
    queries = encoding.queries(log, asked)
    return Task(log, holdout, queries, False, asked=asked)


def _time_split(
    log: InteractionLog, last_days: float | None, seed: int, *, discovery: bool
) -> Task:
    if last_days is None:
        split, held_out = (
            splits.time_split(log.user, log.timestamp, _TEST_SHARE),
            "happened at the same moment",
        )
    else:
        cut = int(log.timestamp.max() - last_days * DAY_MS) + 1
        split, held_out = (
            splits.split_at(log.user, log.timestamp, cut),
            f"are of the last {last_days:g} days",
        )
    if not len(split.training):
        raise ValueError(f"all events {held_out}: nothing is left to fit on")
    asked = split.test[first_meetings(log)[split.test]] if discovery else split.test
    asked = sample(asked, MOST_QUERIES, seed)
    return Task(
        log.select(split.training),
        None,
        encoding.queries(log, asked),
        repeats=False if discovery else None,
        asked=asked,
    )


def _by_position(log: InteractionLog) -> InteractionLog:
    """The log with each click of a session one millisecond after the last.

    The prefixes of a query file have no times either.
    """
    starts = splits.history_starts(log.user)
    return replace(log, timestamp=log.timestamp[starts] + np.arange(len(log)) - starts)


def prefix_queries(query_table: pa.Table, item_ids: list[str]) -> Iterator[Query]:
    """Queries of sessions of views without times; a label outside the catalogue stays a miss."""
    index = {item_id: place for place, item_id in enumerate(item_ids)}
    columns = (query_table[name].to_pylist() for name in ("prefix", "label"))
    for prefix, label in zip(*columns, strict=True):
        item = np.array([index[item_id] for item_id in prefix or () if item_id in index], np.int32)
        history = History(
            item, np.ones(len(item), np.float32), np.arange(len(item), dtype=np.int64)
        )
        yield Query(history, index.get(label, -1))
