"""A bundle as its kernels read it, and the room that they work in."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slipstream.models.base import History, Indices, Mask, Retriever, Scores
from slipstream.models.blend import Blend
from slipstream.models.kernels import candidates, lists
from slipstream.models.kernels.compiler import prepare
from slipstream.models.kernels.selection import words
from slipstream.models.ranker import Ranker
from slipstream.models.transformer import Transformer
from slipstream.recommender.plan_rows import Row, head_row, retriever_row, scores_row
from slipstream.recommender.ranking_features import ItemTable

_RULES = 9
_NOBODY = np.empty(0, np.int32)
_ANY = np.empty(0, np.uint8)


class Lists(NamedTuple):
    """The lists of several histories, (histories, length).

    Attributes:
        items: Items; -1 where a list is shorter.
        scores: Their probabilities among the candidates.
        sources: The retriever with the largest part of each score.
        states: The first network's state, (histories, dim); zeros where no network read the
            history.
    """

    items: NDArray[np.int32]
    scores: Scores
    sources: NDArray[np.int32]
    states: Scores

    @classmethod
    def room(cls, histories: int, length: int, state: int) -> "Lists":
        """Lists to be filled in."""
        shape = (histories, length)
        return cls(
            np.empty(shape, np.int32),
            np.empty(shape, np.float32),
            np.zeros(shape, np.int32),
            np.empty((histories, state), np.float32),
        )


class OrderedCandidates(NamedTuple):
    """The candidates of a history, ascending; columns of scores and features are retrievers.

    `totals` are the sums of the retrievers' scores. `order` is what a list is ordered by, -inf for
    those that the ranker did not look at. `state` is the first network's, as in `Lists`.
    """

    items: Indices
    scores: Scores
    features: Scores
    totals: Scores
    order: Scores
    state: Scores


class ListRequest(NamedTuple):
    """What is asked of a plan for one or several histories.

    Attributes:
        n: Length of the lists.
        limit: Items that each retriever proposes, plus one for each that is excluded.
        depth: Best candidates that the ranker orders.
        allowed: Whether each item may be shown; None allows all.
        given: Whether the candidates are those that would be excluded.
        only: Retrievers of the blend that decides, without the ranker. One of them must propose
            each item. None is the whole order.
    """

    n: int
    limit: int
    depth: int
    allowed: Mask | None = None
    given: bool = False
    only: Sequence[int] | None = None


class Plan:
    """The kernels' view of a bundle. Threads may ask it at the same time.

    A retriever of a class that no kernel knows scores in Python, and the kernel goes on from there.
    Retrievers are in the order of the blend.

    Raises:
        ValueError: Arrays do not fit together.
    """

    def __init__(
        self,
        n_items: int,
        retrievers: Sequence[Retriever],
        blend: Blend,
        ranker: Ranker | None = None,
        items: ItemTable | None = None,
    ) -> None:
        rows = [
            head_row(n_items, len(retrievers), blend, ranker, items),
            *(retriever_row(retriever, n_items) for retriever in retrievers),
        ]
        self._kept = rows
        width = max(candidates.WIDTH, *(max(row.places) + 1 for row in rows))
        self._table = np.zeros((len(rows), width), np.int64)
        self._rules = np.zeros((len(rows), _RULES), np.float64)
        for number, row in enumerate(rows):
            _fill(self._table[number], row)
            self._rules[number, : len(row.rules)] = row.rules
        self._others = {
            number: retriever
            for number, retriever in enumerate(retrievers, 1)
            if rows[number].places[0] == candidates.OTHER
        }
        self._n_items, self._retrievers = n_items, len(retrievers)
        self._state = max(
            (one.items.rows.shape[1] for one in retrievers if isinstance(one, Transformer)),
            default=0,
        )
        networks = [isinstance(one, Transformer) for one in retrievers]
        self._network = networks.index(True) if any(networks) else -1
        self._ranks = ranker is not None
        self._weights = np.array(blend.weights, np.float32)
        self._everything = np.ones(n_items, np.uint8)
        self._rooms = threading.local()
        prepare(lists.recommend, lists.RECOMMEND)

    def recommend(
        self,
        histories: Sequence[History],
        request: ListRequest,
        excluded: Sequence[NDArray[np.int32]] = (),
    ) -> Lists:
        """The lists of several histories, each as if it were alone. `excluded` has items of each
        history that may not be shown; empty for none.
        """
        if self._others and len(histories) != 1:
            alone = [
                self.recommend([history], request, excluded[place : place + 1])
                for place, history in enumerate(histories)
            ]
            return Lists(*(np.concatenate(parts) for parts in zip(*alone, strict=True)))
        found = Lists.room(len(histories), request.n, self._state)
        if histories:
            self._ask(histories, request, excluded, found)
        return found

    def candidates(
        self, history: History, request: ListRequest, excluded: NDArray[np.int32] = _NOBODY
    ) -> OrderedCandidates:
        """The candidates of a history with all that is known of them."""
        found = Lists.room(1, 0, self._state)
        items, scores, features, totals, order = self._ask([history], request, [excluded], found)
        return OrderedCandidates(
            items,
            np.ascontiguousarray(scores.T),
            np.ascontiguousarray(features.T),
            totals,
            order,
            found.states[0],
        )

    def _ask(
        self,
        histories: Sequence[History],
        request: ListRequest,
        excluded: Sequence[NDArray[np.int32]],
        found: Lists,
    ) -> tuple[NDArray[Any], ...]:
        table, kept = self._table, []
        if self._others:
            table = table.copy()
            for number, retriever in self._others.items():
                kept.append(scores_row(retriever.score(histories[0]), self._n_items))
                _fill(table[number], kept[-1])
        if len(histories) == 1:
            item, weight, time = (_own(array) for array in histories[0])
            unwanted = _own(excluded[0]) if excluded else _NOBODY
            ends = np.array([[len(item), len(unwanted)]])
        else:
            item, weight, time = (np.concatenate(parts) for parts in zip(*histories, strict=True))
            unwanted = np.concatenate(excluded) if excluded else _NOBODY
            ends = np.zeros((len(histories), 2), np.int64)
            ends[:, 0] = np.cumsum([len(history.item) for history in histories])
            if excluded:
                ends[:, 1] = np.cumsum([len(items) for items in excluded])
        mask = self._everything
        if request.allowed is not None:
            mask = _own(request.allowed).view(np.uint8)
            if len(mask) < self._n_items:
                raise ValueError(f"a mask of {len(mask)} items for {self._n_items}")
        weights, required = self._weights, _ANY
        if request.only is not None:
            required = np.zeros(self._retrievers, np.uint8)
            required[list(request.only)] = 1
            weights = weights * required.astype(np.float32)
        depth = request.depth if self._ranks and request.only is None else 0
        ask: Callable[..., tuple[NDArray[Any], ...]] = lists.recommend
        return ask(
            table, self._rules, *self._room(), item, weight, time, unwanted, ends, mask, weights,
            required, np.array([request.limit, depth, request.given, self._state, self._network]),
            *found,
        )  # fmt: skip

    def _room(self) -> tuple[NDArray[Any], ...]:
        """This thread's room. It is made once, and only what requests touch takes memory."""
        room: tuple[NDArray[Any], ...] | None = getattr(self._rooms, "room", None)
        if room is None:
            n, shape = self._n_items, (self._retrievers, self._n_items)
            room = self._rooms.room = (
                np.full(n, candidates.FREE, np.int32),
                np.zeros(n, np.float64),
                np.zeros(words(n), np.int64),
                np.empty(n, np.int64),
                np.empty(shape, np.int32),
                np.empty(shape, np.float32),
            )
        return room


def _fill(places: NDArray[np.int64], row: Row) -> None:
    places[list(row.places)] = list(row.places.values())


def _own(array: NDArray[Any]) -> NDArray[Any]:
    """The array as kernels take it: contiguous, and not marked as read-only."""
    return array if array.flags.c_contiguous and array.flags.writeable else array.copy()
