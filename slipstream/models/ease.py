"""EASE: a linear autoencoder over items with a zero diagonal, in closed form.

H. Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019: B = I - P / diag(P) with P = (X'X + λI)^-1.

The inverse takes 4 bytes x items^2 and about items^3 operations. A catalogue of more than `max_items` items is therefore solved
in the space of the `rank` largest singular vectors V of X, where the same closed form costs items x rank: with singular values s,
(X'X + λI)^-1 is taken for (I - V diag(s² / (s² + λ)) V') / λ, as if X had no others.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse
from scipy.sparse.linalg import LinearOperator, eigsh

from slipstream.models.base import InteractionLog
from slipstream.models.neighbours import HistoryWeighting, ItemToItem, neighbours_kept

_ROWS_AT_ONCE = 512
_VALUES_AT_ONCE = 20_000_000


@dataclass(frozen=True)
class EaseParameters:
    regularisation: float = 200.0
    """λ, in visitors."""
    max_items: int = 8_000
    """Up to so many items are solved exactly."""
    rank: int = 256
    weighting: HistoryWeighting = field(default_factory=lambda: HistoryWeighting(position_exponent=0.5, by_event=False))


def fit_ease(log: InteractionLog, parameters: EaseParameters) -> ItemToItem:
    """Fits on which visitor had which item; how often and when does not count."""
    known = np.unique(log.item)
    if len(known) > parameters.max_items:
        return solve_in_low_rank(known.astype(np.int32), log, parameters)
    chosen, gram = item_gram(log, parameters.max_items)
    return solve(chosen, gram, log.n_items, parameters, overwrite=True)


def item_gram(log: InteractionLog, max_items: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The most popular items, ascending, and in how many visitors' histories each two of them occur together."""
    count = np.bincount(log.item, minlength=log.n_items)
    chosen = np.sort(np.argsort(-count, kind="stable")[: min(max_items, int((count > 0).sum()))])
    visits = visits_of(log, chosen)
    gram = np.zeros((len(chosen), len(chosen)), np.float32)
    columns = visits.T.tocsr()
    for begin in range(0, len(chosen), _ROWS_AT_ONCE):
        gram[begin : begin + _ROWS_AT_ONCE] = (columns[begin : begin + _ROWS_AT_ONCE] @ visits).toarray()
    return chosen.astype(np.int32), gram


def visits_of(log: InteractionLog, chosen: NDArray[np.integer[Any]]) -> "sparse.csr_array[Any, Any]":
    """(visitors, chosen items): 1 where the visitor had the item. `chosen` is ascending."""
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
    """The closed form, keeping each item's neighbours of largest magnitude. With `overwrite`, `gram` is used up."""
    size = len(chosen)
    if not size:
        return ItemToItem.of(sparse.csr_array((n_items, n_items), dtype=np.float32), parameters.weighting)
    regular = gram if overwrite else gram.copy()
    regular[np.diag_indices(size)] += parameters.regularisation
    # LAPACK works in place on columns: the transposed view is that, and the matrix is symmetric.
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
    rows = (weights[begin : begin + _ROWS_AT_ONCE] for begin in range(0, size, _ROWS_AT_ONCE))
    return _strongest_of(rows, chosen, n_items, parameters)


def solve_in_low_rank(chosen: NDArray[np.int32], log: InteractionLog, parameters: EaseParameters) -> ItemToItem:
    """The closed form in the space of the largest singular vectors, keeping each item's neighbours of largest magnitude."""
    size = len(chosen)
    visits = visits_of(log, chosen)
    columns = visits.T.tocsr()
    rank = min(parameters.rank, size - 1, visits.shape[0] - 1)
    gram = LinearOperator((size, size), matvec=lambda vector: columns @ (visits @ vector), dtype=np.float32)
    start = np.random.default_rng(0).normal(size=size).astype(np.float32)
    squares, vectors = eigsh(gram, k=rank, v0=start, tol=1e-2)
    kept = vectors * np.sqrt(np.maximum(squares, 0) / (np.maximum(squares, 0) + parameters.regularisation))
    kept = kept.astype(np.float32)
    # λ cancels: an entry of -P / diag(P) is this product over what it leaves of 1 on the diagonal.
    left = 1 - np.einsum("ij,ij->i", kept, kept)

    def rows() -> Iterator[NDArray[np.float32]]:
        at_once = max(1, min(_ROWS_AT_ONCE, _VALUES_AT_ONCE // size))
        for begin in range(0, size, at_once):
            block = kept[begin : begin + at_once] @ kept.T
            block /= left
            block[np.arange(len(block)), np.arange(begin, begin + len(block))] = 0
            yield block

    return _strongest_of(rows(), chosen, log.n_items, parameters)


def _strongest_of(
    blocks: Iterable[NDArray[np.float32]], chosen: NDArray[np.int32], n_items: int, parameters: EaseParameters
) -> ItemToItem:
    """What is kept of a matrix over the chosen items that comes in blocks of rows."""
    size = len(chosen)
    keep = min(neighbours_kept(n_items), size)
    indices = np.empty((size, keep), np.int32)
    data = np.empty((size, keep), np.float32)
    begin = 0
    for rows in blocks:
        best = np.argpartition(-np.abs(rows), keep - 1, axis=1)[:, :keep] if keep < size else np.arange(size)[None]
        best = np.sort(np.broadcast_to(best, (len(rows), keep)), axis=1)
        indices[begin : begin + len(rows)] = chosen[best]
        data[begin : begin + len(rows)] = np.take_along_axis(rows, best, axis=1)
        begin += len(rows)
    lengths = np.zeros(n_items, np.int64)
    lengths[chosen] = keep
    indptr = np.concatenate(([0], np.cumsum(lengths)))
    return ItemToItem(data.ravel(), indices.ravel(), indptr, parameters.weighting, logarithmic=False)
