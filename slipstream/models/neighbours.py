"""Item-to-item retrieval: each item of a history votes for its neighbours.

Rules, EASE and content are all of this form. So are revisits, where each item is its own neighbour,
the latest first: J. Anderson, R. Kumar, A. Tomkins, S. Vassilvitskii, "The Dynamics of Repeat
Consumption", WWW 2014: recency is the best single predictor of a repeat. Shop sessions come back to
the same product; a film is rated once. The blend learns the difference.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from slipstream.models.base import (
    Arrays,
    History,
    Indices,
    Mask,
    Parameters,
    Scores,
    SparseScores,
)

if TYPE_CHECKING:
    from scipy import sparse


# About how many neighbours a retriever stores in all (32 MB): a large catalogue keeps fewer for
# each item.
STORED_VALUES = 4_000_000
_AT_ONCE = 5_000_000


@dataclass(frozen=True)
class HistoryWeighting:
    """The weight of each event's vote."""

    # The number of latest events that vote, which bounds the cost of a request.
    max_events: int = 50
    # The k-th latest event (k = 1, 2, …) counts k ** -position_exponent.
    position_exponent: float = 0.0
    # An event this much older than the latest counts half.
    half_life_ms: float | None = None
    # Whether a purchase counts more than a view; otherwise every event counts the same.
    by_event: bool = True
    # Whether an item that occurs several times votes once, by its latest occurrence.
    distinct: bool = True

    def __call__(self, history: History) -> tuple[Indices, Scores]:
        """The voting items, latest first, and the weight of each."""
        item = history.item[::-1][: self.max_events]
        position = np.arange(1, len(item) + 1, dtype=np.float32)
        weight = position ** np.float32(-self.position_exponent)
        if self.half_life_ms is not None and len(item):
            timestamp = history.timestamp[::-1][: self.max_events]
            weight *= np.exp2(-(timestamp[0] - timestamp) / self.half_life_ms, dtype=np.float32)
        if self.by_event:
            weight *= history.weight[::-1][: self.max_events]
        if self.distinct and len(set(item.tolist())) < len(item):
            _, first = np.unique(item, return_index=True)
            first.sort()
            item, weight = item[first], weight[first]
        return item, weight


@dataclass(frozen=True)
class ItemToItem:
    """A matrix of votes, rows by the item of the history, in arrays that may be memory-mapped.

    It is CSR. Where every item keeps every other, `data` holds whole rows and `indices` is empty.
    """

    data: NDArray[np.float32]
    indices: NDArray[np.int32]
    indptr: NDArray[np.int64]
    weighting: HistoryWeighting
    logarithmic: bool = True

    kind: ClassVar[str] = "item-to-item"

    @classmethod
    def of(
        cls,
        matrix: "sparse.csr_array[Any, Any]",
        weighting: HistoryWeighting,
        *,
        logarithmic: bool = True,
    ) -> Self:
        """A matrix that keeps each item's strongest neighbours; all in a small catalogue."""
        size = matrix.shape[0]
        if neighbours_kept(size) == size and matrix.nnz * 8 > size * size:
            return cls.full(matrix.toarray(), weighting, logarithmic=logarithmic)
        data, indices, indptr = strongest(matrix, neighbours_kept(size))
        return cls(data, indices, indptr, weighting, logarithmic)

    @classmethod
    def full(
        cls, matrix: NDArray[np.float32], weighting: HistoryWeighting, *, logarithmic: bool = True
    ) -> Self:
        """A matrix that keeps every value of a square matrix."""
        indptr = np.arange(len(matrix) + 1, dtype=np.int64) * len(matrix)
        return cls(
            matrix.astype(np.float32).ravel(), np.empty(0, np.int32), indptr, weighting, logarithmic
        )

    @property
    def n_items(self) -> int:
        return len(self.indptr) - 1

    def score(self, history: History) -> SparseScores:
        item, weight = self.weighting(history)
        n_items = self.n_items
        if len(self.data) > len(self.indices):
            votes = weight @ self.data.reshape(n_items, n_items)[item]
            return SparseScores(np.arange(n_items, dtype=np.int32), votes)
        begin, end = self.indptr[item], self.indptr[item + 1]
        if not (end > begin).any():
            return SparseScores(np.empty(0, np.int32), np.empty(0, np.float32))
        spans = [slice(b, e) for b, e in zip(begin.tolist(), end.tolist(), strict=True)]
        voted = np.concatenate([self.indices[span] for span in spans])
        votes = np.concatenate([self.data[span] for span in spans]) * np.repeat(weight, end - begin)
        if (
            4 * len(voted) > n_items
        ):  # adding up over the whole catalogue is then cheaper than sorting
            total = np.bincount(voted, votes, n_items)
            found = np.flatnonzero(total).astype(np.int32)
            return SparseScores(found, total[found].astype(np.float32))
        found, place = np.unique(voted, return_inverse=True)
        return SparseScores(found, np.bincount(place, votes).astype(np.float32))

    def score_all(self, histories: Sequence[History]) -> Scores:
        """The `score` of many histories at once, dense (histories, items).

        It is quicker than one by one, and needs memory for all of them.
        """
        from scipy import sparse

        voters = [self.weighting(history) for history in histories]
        lengths = [len(item) for item, _ in voters]
        n_items = self.n_items
        ballots = sparse.csr_array(
            (
                np.concatenate([weight for _, weight in voters]),
                np.concatenate([item for item, _ in voters]),
                np.concatenate(([0], np.cumsum(lengths))),
            ),
            shape=(len(voters), n_items),
        )
        if len(self.data) > len(self.indices):
            return np.asarray(ballots @ self.data.reshape(n_items, n_items), np.float32)
        votes = sparse.csr_array((self.data, self.indices, self.indptr), shape=(n_items, n_items))
        return np.asarray((ballots @ votes).toarray(), np.float32)

    def score_at(self, scored: SparseScores, items: Indices) -> Scores:
        return scored.at(items)

    def propose(self, scored: SparseScores, limit: int, allowed: Mask | None) -> Indices:
        return scored.best(limit, allowed)

    def arrays(self) -> Arrays:
        return {"data": self.data, "indices": self.indices, "indptr": self.indptr}

    def parameters(self) -> Parameters:
        return {"weighting": asdict(self.weighting), "logarithmic": self.logarithmic}

    @classmethod
    def restore(cls, arrays: Arrays, parameters: Parameters) -> Self:
        weighting = HistoryWeighting(**parameters["weighting"])
        return cls(
            arrays["data"],
            arrays["indices"],
            arrays["indptr"],
            weighting,
            parameters["logarithmic"],
        )


def neighbours_kept(n_items: int) -> int:
    """The number of neighbours that an item keeps.

    They are all of 2,000 items, 400 of 10,000, and never fewer than 50.
    """
    return min(n_items, max(50, STORED_VALUES // max(n_items, 1)))


def strongest(
    matrix: "sparse.csr_array[Any, Any]", keep: int
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int64]]:
    """Data, indices and indptr of the `keep` values of largest magnitude in each row.

    Columns are ascending.
    """
    matrix.sum_duplicates()
    lengths = np.diff(matrix.indptr)
    kept = np.ones(matrix.nnz, np.bool_)
    long = np.flatnonzero(lengths > keep)
    values = lengths[long].cumsum()
    # In blocks: a sort of all rules of a large catalogue at once takes several copies of them.
    for rows in np.split(long, np.searchsorted(values, np.arange(_AT_ONCE, matrix.nnz, _AT_ONCE))):
        begin = np.cumsum(lengths[rows]) - lengths[rows]
        place = np.repeat(matrix.indptr[rows] - begin, lengths[rows])
        place += np.arange(len(place))
        row = np.repeat(np.arange(len(rows)), lengths[rows])
        order = np.lexsort((-np.abs(matrix.data[place]), row))
        rank = np.arange(len(place)) - np.repeat(begin, lengths[rows])
        kept[place[order[rank >= keep]]] = False
    indptr = np.concatenate(([0], np.cumsum(np.minimum(lengths, keep)))).astype(np.int64)
    return matrix.data[kept].astype(np.float32), matrix.indices[kept].astype(np.int32), indptr


def revisits(n_items: int) -> ItemToItem:
    """A retriever in which each item votes for itself; nothing is fitted."""
    weighting = HistoryWeighting(position_exponent=1.0, distinct=False)
    ones = np.ones(n_items, np.float32)
    return ItemToItem(
        ones, np.arange(n_items, dtype=np.int32), np.arange(n_items + 1, dtype=np.int64), weighting
    )
