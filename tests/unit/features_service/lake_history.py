"""Writes records into the lake as the features service does."""

import json
import random
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from services.features.history.archive import as_table, interaction_row
from slipstream.broker.records import Message
from slipstream.contracts.positions import Source, StreamInteraction
from slipstream.contracts.vocabulary import MERGED_INTO
from slipstream.stores.lake import CATALOG, INTERACTIONS, SCHEMAS, Lake

Entry = tuple[str, str, dict[str, Any], int]


def write(lake: Lake, records: Sequence[StreamInteraction], chance: random.Random) -> None:
    """Write interactions in a few appends, with the rows of each in random order."""
    rest = list(records)
    while rest:
        size = chance.randrange(1, len(rest) + 1)
        portion, rest = rest[:size], rest[size:]
        offsets: dict[Source, int] = {}
        rows = []
        for source, offset, event in chance.sample(portion, len(portion)):
            topic_id, _, partition = source.rpartition(":")
            place = Source("interactions.v1", topic_id, int(partition))
            offsets[place] = max(offset, offsets.get(place, -1))
            rows.append(interaction_row(Message(place, offset, event.user_id, event, "")))
        lake.append(INTERACTIONS, as_table(INTERACTIONS, rows), offsets)


def links(*pairs: tuple[str, str], at: int = 1) -> list[Entry]:
    """Catalogue entries that link visitors to users, given as pairs (visitor, user)."""
    return [("identity", visitor, {MERGED_INTO: user}, at) for visitor, user in pairs]


def write_catalog(
    lake: Lake, entries: Sequence[Entry], first: int = 0, *, by_browser: bool = False
) -> None:
    """Write catalogue entries, given as (entity, id, attributes, time in ms)."""
    rows = [
        {
            "entity": entity, "entity_id": entity_id, "attributes": json.dumps(attributes),
            "available": True, "deleted": False, "timestamp": at, "source": "",
            "topic_id": "c", "partition": 0, "offset": offset, "by_browser": by_browser,
        }
        for offset, (entity, entity_id, attributes, at) in enumerate(entries, first)
    ]  # fmt: skip
    table = pa.Table.from_pylist(rows, SCHEMAS[CATALOG])
    lake.append(CATALOG, table, {Source("catalog.v1", "c", 0): first + len(rows) - 1})
