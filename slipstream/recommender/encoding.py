"""Encoding of tables with names as arrays of numbers: catalogue, interaction log, queries."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from slipstream.contracts.vocabulary import CONVERSIONS, IMPRESSION, MAX_POSITION, RATE
from slipstream.evaluation.splits import history_starts
from slipstream.models.base import NEVER, EventWeights, History, Impressions, InteractionLog


class Query(NamedTuple):
    """A visitor's history, and the index of the item that came next."""

    history: History
    label: int


def met_items(interactions: pa.Table, weights: EventWeights) -> list[str]:
    """The items of the events that have a weight, sorted by id.

    A model knows these alone. Any other is a new item to it (docs/adr/0054).
    """
    signals = pa.array(event_weights(interactions, weights) > 0)
    return sorted(pc.unique(interactions["item_id"].filter(signals)).drop_null().to_pylist())


def encode(interactions: pa.Table, item_ids: list[str], weights: EventWeights) -> InteractionLog:
    """The log of the events that have a weight and an item of the catalogue.

    Users are numbered as they first appear. Needs the columns `user_id`, `item_id`, `event_type`,
    `timestamp`, and `value` where ratings weigh by their value.
    """
    weight = event_weights(interactions, weights)
    item = pc.fill_null(
        pc.index_in(interactions["item_id"], pa.array(item_ids, pa.string())), -1
    ).to_numpy()
    kept = (weight > 0) & (item >= 0)
    users = interactions["user_id"].combine_chunks().dictionary_encode().indices.to_numpy()[kept]
    _, users = np.unique(users, return_inverse=True)
    timestamp = interactions["timestamp"].to_numpy()[kept]
    # Stable: events of the same moment stay in the order of the table.
    order = np.lexsort((timestamp, users))
    return InteractionLog(
        users[order].astype(np.int32),
        item[kept][order].astype(np.int32),
        timestamp[order].astype(np.int64),
        weight[kept][order],
        len(item_ids),
        _impressions(interactions, item, kept, len(item_ids)),
        _conversions(interactions)[kept][order],
    )


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


def queries(log: InteractionLog, rows: NDArray[np.int64]) -> list[Query]:
    """A query for each of the rows: the user's earlier events, and the row's item."""
    starts = history_starts(log.user)
    return [
        Query(
            History(log.item[begin:row], log.weight[begin:row], log.timestamp[begin:row]),
            int(log.item[row]),
        )
        for begin, row in zip(starts[rows].tolist(), rows.tolist(), strict=True)
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
        for row in items.to_pylist()
        if row["item_id"] in known
    }
