"""The rows of a plan's table: each points to the arrays of one retriever, or of the ranker.

The places within a row are those that `slipstream.models.kernels` reads: `ordering` names them in
the first row, `candidates` and `network` in a retriever's. A kernel does not check what it reads,
so that what would lead it outside an array is refused here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipstream.models import nearest as nearest_items
from slipstream.models.base import Retriever, SparseScores
from slipstream.models.blend import Blend
from slipstream.models.kernels import candidates, network, ordering
from slipstream.models.neighbours import ItemToItem
from slipstream.models.popularity import Popularity
from slipstream.models.ranker import Ranker
from slipstream.models.sessions import LONGEST_VISIT, Sessions
from slipstream.models.transformer import Transformer, distance_buckets
from slipstream.recommender.ranking_features import ItemTable


class Row:
    """A row of the table while it is made, and the arrays that it points to."""

    def __init__(self, kind: int = 0, rules: Sequence[float] = ()) -> None:
        self.places: dict[int, int] = {0: kind}
        self.rules = rules
        self._arrays: list[NDArray[Any]] = []

    def add(self, place: int, array: NDArray[Any], kind: type[Any]) -> None:
        """Point to an array, or to a copy in the form that kernels read."""
        kept = np.ascontiguousarray(array, kind)
        self._arrays.append(kept)
        self.places |= {place: kept.ctypes.data, place + 1: kept.size}


def head_row(
    n_items: int, retrievers: int, blend: Blend, ranker: Ranker | None, items: ItemTable | None
) -> Row:
    """The first row: the blend's floors, and the ranker with the items as it knows them."""
    _demand("the blend", len(blend.weights) == len(blend.floors) == retrievers)
    row = Row()
    row.places |= {ordering.N_ITEMS: n_items, ordering.RETRIEVERS: retrievers}
    row.add(ordering.FLOORS, blend.floors, np.float32)
    if ranker is None or items is None:
        return row
    numbers, codes = items.numbers.shape[1], len(items.codes)
    features = 2 * retrievers + numbers + codes + ordering.OF_HISTORY
    hidden = len(ranker.out)
    _demand(
        "the ranker",
        len(ranker.mean) == len(ranker.scale) == features,
        ranker.hidden.shape == (features, hidden) and len(ranker.hidden_bias) == hidden,
        items.numbers.shape == (n_items, numbers) and len(items.price) == n_items,
        items.codes.size == codes * n_items,
    )
    row.add(ordering.MEAN, ranker.mean, np.float32)
    row.add(ordering.SCALE, ranker.scale, np.float32)
    row.add(ordering.HIDDEN, ranker.hidden, np.float32)
    row.add(ordering.HIDDEN_BIAS, ranker.hidden_bias, np.float32)
    row.add(ordering.OUT, ranker.out, np.float32)
    row.add(ordering.NUMBERS, items.numbers, np.float32)
    row.add(ordering.CODES, items.codes, np.int32)
    row.add(ordering.PRICE, items.price, np.float32)
    row.places |= {ordering.N_NUMBERS: numbers, ordering.N_CODES: codes}
    return row


def retriever_row(retriever: Retriever, n_items: int) -> Row:
    """A retriever's row; of one that no kernel knows, a row that its scores go into."""
    make = _ROWS.get(type(retriever))
    return make(retriever, n_items) if make is not None else Row(candidates.OTHER)


def scores_row(scored: SparseScores, n_items: int) -> Row:
    """The row of a retriever that no kernel knows, for one history."""
    row = Row(candidates.OTHER)
    _demand(
        "a retriever",
        len(scored.item) == len(scored.score) <= n_items,
        _within(scored.item, n_items),
    )
    row.add(candidates.FIRST, scored.item, np.int32)
    row.add(candidates.SECOND, scored.score, np.float32)
    return row


def _popularity(retriever: Popularity, n_items: int) -> Row:
    row = Row(candidates.POPULARITY)
    order = retriever.order
    _demand("popularity", len(retriever.share) == n_items >= len(order), _within(order, n_items))
    row.add(candidates.FIRST, retriever.share, np.float32)
    row.add(candidates.SECOND, retriever.head, np.int32)
    row.add(candidates.THIRD, order, np.int32)
    return row


def _item_to_item(retriever: ItemToItem, n_items: int) -> Row:
    data, indices, indptr = retriever.data, retriever.indices, retriever.indptr
    own = retriever.weighting
    whole = len(data) > len(indices)
    _demand(
        "neighbours",
        len(indptr) == n_items + 1,
        len(data) == n_items * n_items if whole else _ascending(indptr, len(data)),
        whole or len(indices) == len(data),
        _within(indices, n_items),
    )
    events = min(own.max_events, candidates.MOST_EVENTS)
    half_life = own.half_life_ms or 0.0
    rules = [events, own.position_exponent, half_life, own.by_event, own.distinct]
    if not whole and 2 * len(data) > n_items * n_items:
        row = Row(candidates.FULL_ROWS, rules)
        row.add(candidates.FIRST, _full_rows(retriever), np.float32)
        return row
    row = Row(candidates.WHOLE_VOTES if whole else candidates.VOTES, rules)
    row.add(candidates.FIRST, data, np.float32)
    row.add(candidates.SECOND, indices, np.int32)
    row.add(candidates.THIRD, indptr, np.int64)
    return row


def _full_rows(matrix: ItemToItem) -> NDArray[np.float32]:
    """The rows with zeros where there is no entry. There are as few items as keep nearly all."""
    rows = np.zeros((matrix.n_items, matrix.n_items), np.float32)
    of_entry = np.repeat(np.arange(matrix.n_items), np.diff(matrix.indptr))
    np.add.at(rows, (of_entry, matrix.indices), matrix.data)
    return rows


def _sessions(retriever: Sessions, n_items: int) -> Row:
    own, ends, item_ends = retriever.own, retriever.ends, retriever.item_ends
    _demand(
        "sessions",
        _ascending(ends, len(retriever.items)),
        _ascending(item_ends, len(retriever.visits)) and len(item_ends) == n_items,
        int(np.diff(ends, prepend=0).max(initial=0)) <= LONGEST_VISIT,
        _within(retriever.items, n_items) and _within(retriever.visits, len(ends)),
        len(retriever.places) == len(retriever.visits),
        _within(retriever.places, len(retriever.items)),
    )
    row = Row(candidates.SESSIONS, [float(value or 0) for value in astuple(own)])
    row.add(candidates.FIRST, retriever.items, np.int32)
    row.add(candidates.SECOND, ends, np.int64)
    row.add(candidates.THIRD, retriever.visits, np.int32)
    row.add(candidates.FOURTH, retriever.places, np.int64)
    row.add(candidates.FIFTH, item_ends, np.int64)
    share = np.diff(item_ends, prepend=0) / max(1, len(ends))
    row.add(candidates.SIXTH, np.maximum(share, 1e-12) ** -own.rarity, np.float32)
    return row


def _network(retriever: Transformer, n_items: int) -> Row:
    w, shape, nearest = retriever.weights, retriever.shape, retriever.items
    dim, blocks = nearest.rows.shape[1], len(w["qkv"])
    place = nearest.place if len(nearest.place) else np.arange(len(nearest.rows))
    square = (blocks, dim, dim)
    hidden = w["down"].shape[2]
    _demand(
        "the network",
        len(nearest.rows) == n_items == len(place) and _within(place, n_items),
        not len(nearest.centres)
        or (_within(nearest.items, n_items) and len(nearest.items) == n_items),
        len(nearest.ends) == len(nearest.centres) == len(nearest.radii),
        not len(nearest.centres) or nearest.centres.shape[1] == dim <= nearest_items.LONGEST,
        not len(nearest.centres)
        or (nearest.codes.shape == nearest.rows.shape and len(nearest.scales) == n_items),
        not len(nearest.ends) or _ascending(nearest.ends, n_items),
        w["qkv"].shape == (blocks, 3 * dim, dim) and dim % shape.heads == 0,
        all(w[name].shape == square for name in ("attention_gate", "out", "feed_gate")),
        w["up"].shape == (blocks, 2 * hidden, dim) and w["down"].shape == (blocks, dim, hidden),
        all(w[name].shape == (blocks, dim) for name in _OF_BLOCK),
        w["kinds"].shape == (len(shape.kinds), dim) and len(w["norm"]) == dim,
        all(
            w[name].shape == (blocks, shape.heads, network.BUCKETS) for name in ("distance", "gap")
        ),
    )
    reach = nearest_items.REACH / np.sqrt(dim)
    compared = (float(nearest_items.PROBED), float(nearest_items.NAMED), float(reach))
    row = Row(candidates.NETWORK, [shape.window, shape.heads, blocks, dim, *compared])
    row.add(network.ROWS, nearest.rows, np.float32)
    row.add(network.ITEMS, nearest.items, np.int32)
    row.add(network.PLACE, place, np.int32)
    row.add(network.CENTRES, nearest.centres, np.float32)
    row.add(network.ENDS, nearest.ends, np.int64)
    row.add(network.RADII, nearest.radii, np.float32)
    row.add(network.CODES, nearest.codes, np.int8)
    row.add(network.SCALES, nearest.scales, np.float32)
    row.add(network.KINDS, w["kinds"], np.float32)
    row.add(network.KIND_WEIGHTS, np.array(shape.kinds), np.float32)
    row.add(network.DISTANCE, w["distance"], np.float32)
    row.add(network.GAP, w["gap"], np.float32)
    row.add(network.NORM, w["norm"], np.float32)
    row.add(network.BUCKETS_OF, distance_buckets(shape.window)[-1][::-1], np.int32)
    row.add(network.PROJECTED, _projected(w, nearest.rows[place]), np.float32)
    for block in range(blocks):
        for at, array in _block(w, block).items():
            row.add(network.FIRST_BLOCK + block * network.BLOCK + at, array, np.float32)
    return row


# Most numbers of the first block's projections that a plan keeps (16 MB).
_PROJECTED = 4_000_000


def _projected(w: Mapping[str, NDArray[Any]], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the first block makes of each item and kind; nothing where that would be too large.

    It is a quarter of the network's products, and the same in every history.
    """
    dim = vectors.shape[1]
    if len(vectors) * len(w["kinds"]) * 4 * dim > _PROJECTED:
        return np.empty(0, np.float32)
    x = vectors[:, None] * np.float32(np.sqrt(dim)) + w["kinds"]
    x /= np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(1e-6))
    block = _block(w, 0)
    weights = np.hstack((block[network.KEY_VALUE], block[network.QUERY_GATE]))
    projected: NDArray[np.float32] = (x.reshape(-1, dim) * block[network.ATTENTION_NORM]) @ weights
    return projected


_OF_BLOCK = ("attention_norm", "attention_gate_bias", "feed_norm", "feed_gate_bias")


def _block(w: Mapping[str, NDArray[Any]], block: int) -> dict[int, NDArray[Any]]:
    """A block's arrays. Columns are outputs, and what multiplies the same is one matrix."""
    dim = len(w["norm"])
    query, key_value = w["qkv"][block, :dim], w["qkv"][block, dim:]
    return {
        network.ATTENTION_NORM: w["attention_norm"][block],
        network.KEY_VALUE: key_value.T,
        network.QUERY_GATE: np.vstack((query, w["attention_gate"][block])).T,
        network.GATE_BIAS: w["attention_gate_bias"][block],
        network.OUT: w["out"][block].T,
        network.FEED_NORM: w["feed_norm"][block],
        network.UP_GATE: np.vstack((w["up"][block], w["feed_gate"][block])).T,
        network.FEED_GATE_BIAS: w["feed_gate_bias"][block],
        network.DOWN: w["down"][block].T,
    }


_ROWS: dict[type[Any], Callable[[Any, int], Row]] = {
    Popularity: _popularity,
    ItemToItem: _item_to_item,
    Sessions: _sessions,
    Transformer: _network,
}


def _demand(part: str, *holds: bool) -> None:
    if not all(holds):
        raise ValueError(f"{part}: arrays of this bundle do not fit together")


def _within(numbers: NDArray[Any], size: int) -> bool:
    return not len(numbers) or (int(numbers.min()) >= 0 and int(numbers.max()) < size)


def _ascending(ends: NDArray[Any], last: int) -> bool:
    """Whether these are ends of consecutive parts of `last` entries."""
    return not len(ends) or bool(
        ends[0] >= 0 and ends[-1] == last and (ends[1:] >= ends[:-1]).all()
    )
