"""EASE: a linear autoencoder over items with a zero diagonal, in closed form.

H. Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019: B = I - P / diag(P) with
P = (X'X + λI)^-1.

The inverse takes 4 bytes x items^2 and about items^3 operations. So only the `max_items` most
popular items of a larger catalogue are solved. The others have no neighbours here: the closed form
has little to say of items that few have met.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped, unused-ignore]

from slipstream.models.base import InteractionLog
from slipstream.models.neighbours import HistoryWeighting, ItemToItem, neighbours_kept

_ROWS_AT_ONCE = 512


@dataclass(frozen=True)
class EaseParameters:
    # λ, in visitors.
    regularisation: float = 200.0
    # The number of most popular items that are solved.
    max_items: int = 8_000
    weighting: HistoryWeighting = field(
        default_factory=lambda: HistoryWeighting(position_exponent=0.5, by_event=False)
    )


def fit_ease(log: InteractionLog, parameters: EaseParameters) -> ItemToItem:
    """Fit on the sets of items of each visitor; counts and times do not matter."""
    chosen, gram = item_gram(log, parameters.max_items)
    return solve(chosen, gram, log.n_items, parameters, overwrite=True)


def item_gram(log: InteractionLog, max_items: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The most popular items, ascending, and the number of visitors with each pair of them."""
    count = np.bincount(log.item, minlength=log.n_items)
    chosen = np.sort(np.argsort(-count, kind="stable")[: min(max_items, int((count > 0).sum()))])
    visits = visits_of(log, chosen)
    gram = np.zeros((len(chosen), len(chosen)), np.float32)
    columns = visits.T.tocsr()
    for begin in range(0, len(chosen), _ROWS_AT_ONCE):
        gram[begin : begin + _ROWS_AT_ONCE] = (
            columns[begin : begin + _ROWS_AT_ONCE] @ visits
        ).toarray()
    return chosen.astype(np.int32), gram


def visits_of(
    log: InteractionLog, chosen: NDArray[np.integer[Any]]
) -> "sparse.csr_array[Any, Any]":
    """The matrix (visitors, chosen items) with 1 where the visitor had the item.

    `chosen` is ascending.
    """
    place = np.full(log.n_items, -1, np.int32)
    place[chosen] = np.arange(len(chosen))
    kept = place[log.item] >= 0
    shape = (int(log.user.max(initial=-1)) + 1, len(chosen))
    ones = np.ones(int(kept.sum()), np.float32)
    visits = sparse.csr_array((ones, (log.user[kept], place[log.item[kept]])), shape=shape)
    visits.sum_duplicates()
    visits.data[:] = 1
    return visits


def solve(
    chosen: NDArray[np.int32],
    gram: NDArray[np.float32],
    n_items: int,
    parameters: EaseParameters,
    *,
    overwrite: bool = False,
) -> ItemToItem:
    """Solve the closed form, and keep each item's neighbours of largest magnitude. `chosen` is
    ascending, and `gram` its co-occurrence matrix; to overwrite it saves memory.
    """
    size = len(chosen)
    if not size:
        return ItemToItem.of(
            sparse.csr_array((n_items, n_items), dtype=np.float32), parameters.weighting
        )
    regular = gram if overwrite else gram.copy()
    regular[np.diag_indices(size)] += parameters.regularisation
    # Threads of BLAS spin while they wait: with other work on the cores, two take several times as
    # long as one (docs/measurements/training.md).
    with threadpool_limits(1, user_api="blas"):
        # LAPACK works in place on columns: the transposed view is that, the matrix is symmetric.
        factor = linalg.cholesky(regular.T, lower=True, overwrite_a=True, check_finite=False)
        inverse, _ = linalg.lapack.spotri(factor, lower=True, overwrite_c=True)
    weights = inverse.T
    for begin in range(0, size, _ROWS_AT_ONCE):  # only the upper triangle is filled so far
        end = min(begin + _ROWS_AT_ONCE, size)
        weights[end:, begin:end] = weights[begin:end, end:].T
        square = weights[begin:end, begin:end]
        square[...] = np.triu(square) + np.triu(square, 1).T
    weights /= -np.diag(weights).copy()
    np.fill_diagonal(weights, 0)

    if size == n_items == neighbours_kept(n_items):
        return ItemToItem.full(weights, parameters.weighting, logarithmic=False)
    keep = min(neighbours_kept(n_items), size)
    indices = np.empty((size, keep), np.int32)
    data = np.empty((size, keep), np.float32)
    for begin in range(0, size, _ROWS_AT_ONCE):
        rows = weights[begin : begin + _ROWS_AT_ONCE]
        best = (
            np.argpartition(-np.abs(rows), keep - 1, axis=1)[:, :keep]
            if keep < size
            else np.arange(size)[None]
        )
        best = np.sort(np.broadcast_to(best, (len(rows), keep)), axis=1)
        indices[begin : begin + len(rows)] = chosen[best]
        data[begin : begin + len(rows)] = np.take_along_axis(rows, best, axis=1)
    lengths = np.zeros(n_items, np.int64)
    lengths[chosen] = keep
    indptr = np.concatenate(([0], np.cumsum(lengths)))
    return ItemToItem(
        data.ravel(), indices.ravel(), indptr, parameters.weighting, logarithmic=False
    )
