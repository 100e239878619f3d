"""Encoding of tables with names as arrays of numbers: catalogue, interaction log, queries."""

from collections.abc import Sequence
from dataclasses import astuple, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from slipstream.contracts.vocabulary import (
    CLICK,
    CONVERSIONS,
    IMPRESSION,
    MAX_POSITION,
    PURCHASE,
    RATE,
    VIEW,
)
from slipstream.evaluation.splits import history_starts
from slipstream.models.base import (
    NEVER,
    EventWeights,
    History,
    Impressions,
    Indices,
    InteractionLog,
    Mask,
)

_ROWS_AT_ONCE = 10_000


class Query(NamedTuple):
    """A visitor's history, and the index of the item that came next.

    `bought` marks the purchases of the history, where they are known; `timestamp` is the time of
    the question in ms.
    """

    history: History
    label: int
    bought: Mask | None = None
    timestamp: int = 0


def met_items(interactions: pa.Table, weights: EventWeights) -> list[str]:
    """The items of the events that have a weight, sorted by id.

    A model knows these alone. Any other is a new item to it (docs/adr/0054).
    """
    signals = pa.array(event_weights(interactions, weights) > 0)
    return sorted(pc.unique(interactions["item_id"].filter(signals)).drop_null().to_pylist())


def encode(
    interactions: pa.Table, item_ids: Sequence[str], weights: EventWeights
) -> InteractionLog:
    """The log of the events that have a weight and an item of the catalogue.

    Users are numbered as they first appear. Needs the columns `user_id`, `item_id`, `event_type`,
    `timestamp`, and `value` where ratings weigh by their value.
    """
    rows = log_rows(interactions, item_ids, weights)
    item = _places(interactions, item_ids)
    _, users = np.unique(_codes(interactions["user_id"])[rows], return_inverse=True)
    signals = np.zeros(len(item), np.bool_)
    signals[rows] = True
    # Who rates an item has had it, where nothing is sold. Some clients send a click before each
    # view: then these are one look.
    bought_by, bought = _first_type(interactions, rows, (PURCHASE, RATE))
    looked = _first_type(interactions, rows, (VIEW, CLICK))[1]
    return InteractionLog(
        users.astype(np.int32),
        item[rows].astype(np.int32),
        interactions["timestamp"].to_numpy()[rows].astype(np.int64),
        event_weights(interactions, weights)[rows],
        len(item_ids),
        _impressions(interactions, item, signals, len(item_ids)),
        _conversions(interactions)[rows],
        bought,
        looked,
        bought_by,
    )


def of_met_items(log: InteractionLog) -> tuple[InteractionLog, Indices]:
    """The log of the items that have an event, numbered in their order, and their old numbers."""
    met, item = np.unique(log.item, return_inverse=True)
    shown = log.impressions
    if shown is not None:
        kept = np.isin(shown.item, met)
        shown = Impressions(*(column[kept] for column in astuple(shown)))
        shown = replace(shown, item=np.searchsorted(met, shown.item).astype(np.int32))
    log = replace(log, item=item.astype(np.int32), n_items=len(met), impressions=shown)
    return log, met


def log_rows(
    interactions: pa.Table, item_ids: Sequence[str], weights: EventWeights
) -> NDArray[np.int64]:
    """The rows of the table that `encode` makes the log of, in the order of the log."""
    weight, item = event_weights(interactions, weights), _places(interactions, item_ids)
    rows = np.flatnonzero((weight > 0) & (item >= 0))
    users, times = _codes(interactions["user_id"])[rows], interactions["timestamp"].to_numpy()[rows]
    # Stable: events of the same moment stay in the order of the table.
    return rows[np.lexsort((times, users))]


def _places(interactions: pa.Table, item_ids: Sequence[str]) -> NDArray[np.int64]:
    """The place of each row's item in the catalogue, -1 for an item outside it."""
    places = pc.index_in(interactions["item_id"], pa.array(item_ids, pa.string()))
    found: NDArray[np.int64] = pc.fill_null(places, -1).to_numpy()
    return found


def _codes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Numbers of the column's values, as they first appear."""
    codes: NDArray[np.int64] = column.combine_chunks().dictionary_encode().indices.to_numpy()
    return codes


def _impressions(
    interactions: pa.Table, item: NDArray[np.int64], signals: NDArray[np.bool_], n_items: int
) -> Impressions | None:
    """The places of lists that were shown; None where the table has none.

    An item counts as taken where a signal names the same list.
    """
    if not {"recommendation_id", "position"} <= set(interactions.column_names):
        return None
    lists = interactions["recommendation_id"].combine_chunks().dictionary_encode().indices
    at = pc.fill_null(interactions["position"], -1).to_numpy()
    key = pc.fill_null(lists, -1).to_numpy().astype(np.int64) * n_items + item
    named = (pc.is_valid(lists).to_numpy(zero_copy_only=False)) & (item >= 0)
    times = interactions["timestamp"].to_numpy().astype(np.int64)
    shown = named & (at >= 0) & pc.equal(interactions["event_type"], IMPRESSION).to_numpy()
    if not shown.any():
        return None
    return Impressions(
        item[shown].astype(np.int32),
        np.minimum(at[shown], MAX_POSITION).astype(np.int32),
        times[shown],
        _first_time(key[named & signals], times[named & signals], key[shown]),
    )


def _first_time(
    keys: NDArray[np.int64], times: NDArray[np.int64], wanted: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The earliest time of each wanted key, `NEVER` for a key that does not occur."""
    order = np.lexsort((times, keys))
    keys, times = np.append(keys[order], NEVER), np.append(times[order], NEVER)
    place = np.searchsorted(keys, wanted)
    return np.where(keys[place] == wanted, times[place], NEVER)


def event_weights(interactions: pa.Table, weights: EventWeights) -> NDArray[np.float32]:
    """The weight of each row, as `EventWeights.weight` gives it."""
    encoded = interactions["event_type"].combine_chunks().dictionary_encode()
    by_code = np.array(
        [weights.weight(name) for name in encoded.dictionary.to_pylist()], np.float32
    )
    result = by_code[encoded.indices.to_numpy()] if len(by_code) else np.empty(0, np.float32)
    if weights.rating_scale and "value" in interactions.column_names:
        share = np.clip(interactions["value"].to_numpy() / weights.rating_scale, 0, 1)
        rated = pc.equal(interactions["event_type"], RATE).to_numpy() & ~np.isnan(share)
        result = np.where(rated, result * share, result).astype(np.float32)
    if weights.usual_value and "value" in interactions.column_names:
        proportion = np.sqrt(
            np.clip(interactions["value"].to_numpy() / weights.usual_value, 0.25, 4)
        )
        valued = _conversions(interactions) & ~np.isnan(proportion)
        result = np.where(valued, result * proportion, result).astype(np.float32)
    return result


def _conversions(interactions: pa.Table) -> NDArray[np.bool_]:
    """Whether each row is a cart or a purchase."""
    kinds = pa.array(sorted(CONVERSIONS))
    found: NDArray[np.bool_] = pc.is_in(interactions["event_type"], kinds).to_numpy()
    return found


def _first_type(
    interactions: pa.Table, rows: NDArray[np.int64], types: tuple[str, str]
) -> tuple[str, NDArray[np.bool_]]:
    """The first of two types that one of the rows has, and the rows that have it."""
    column = interactions["event_type"]
    first, second = (pc.equal(column, name).to_numpy()[rows] for name in types)
    return (types[1], second) if second.any() and not first.any() else (types[0], first)


def queries(log: InteractionLog, rows: NDArray[np.int64]) -> list[Query]:
    """A query for each of the rows: the user's earlier events, and the row's item."""
    starts, asked, times = history_starts(log.user)[rows], log.item[rows], log.timestamp[rows]
    return [
        Query(
            History(log.item[begin:end], log.weight[begin:end], log.timestamp[begin:end]),
            label,
            None if log.bought is None else log.bought[begin:end],
            time,
        )
        for begin, end, label, time in zip(
            starts.tolist(), rows.tolist(), asked.tolist(), times.tolist(), strict=True
        )
    ]


def attributes(items: pa.Table | None, item_ids: list[str]) -> dict[str, dict[str, Any]]:
    """The attributes of each item of the catalogue that the table has, without nulls."""
    if items is None:
        return {}
    known = set(item_ids)
    return {
        row["item_id"]: {
            name: value for name, value in row.items() if name != "item_id" and value is not None
        }
        for batch in items.to_batches(_ROWS_AT_ONCE)
        for row in batch.to_pylist()
        if row["item_id"] in known
    }
