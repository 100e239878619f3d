"""Small synthetic histories in a real lake: visitors who walk a chain of items, so that what comes
next can be learned.
"""

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from slipstream.contracts.positions import Source
from slipstream.contracts.times import DAY_MS
from slipstream.stores.lake import CATALOG, INTERACTIONS, SCHEMAS, Lake

START_MS = 1_700_000_000_000


def chain(
    visitors: int = 30,
    items: int = 12,
    steps: int = 12,
    *,
    seed: int = 0,
    start_ms: int = START_MS,
    stride: int = 1,
) -> pa.Table:
    """Each visitor starts somewhere and goes from item i to i + `stride`, one in ten steps
    elsewhere; over ten days.
    """
    random = np.random.default_rng(seed)
    rows = []
    for visitor in range(visitors):
        item = int(random.integers(items))
        at = start_ms + int(random.integers(9 * DAY_MS))
        for _ in range(steps):
            item = (item + stride) % items if random.random() < 0.9 else int(random.integers(items))
            at += int(random.integers(60_000, 7_200_000))
            rows.append((f"v{visitor}", f"i{item}", "view", at))
    return events(rows)


def events(rows: Sequence[tuple[str, str | None, str, int]], first: int = 0) -> pa.Table:
    """Rows of (visitor, item, type, time in ms) as the lake has them."""
    names = ("user_id", "item_id", "event_type", "timestamp")
    records = []
    for number, row in enumerate(rows, first):
        place = {"topic_id": "t", "partition": 0, "offset": number, "received_date": "2023-11-14"}
        records.append(
            {
                **dict(zip(names, row, strict=True)),
                "event_id": f"e{number:06}",
                "received_at": row[3],
                **place,
            }
        )
    return pa.Table.from_pylist(records, SCHEMAS[INTERACTIONS])


def write(lake: Lake, table: pa.Table) -> int:
    """Append to the lake; its version."""
    return lake.append(INTERACTIONS, table, {Source("interactions.v1", "t", 0): table.num_rows - 1})


def write_items(
    lake: Lake,
    items: Sequence[tuple[str, dict[str, object], bool, int]],
    *,
    entity: str = "item",
    first: int = 0,
) -> int:
    """Append item records (id, attributes, deleted, time), from offset `first` on; the lake's
    version.
    """
    rows = [
        {
            "entity": entity,
            "entity_id": item_id,
            "attributes": json.dumps(attributes),
            "available": not deleted,
            "deleted": deleted,
            "timestamp": at,
            "source": "",
            "topic_id": "c",
            "partition": 0,
            "offset": offset,
        }
        for offset, (item_id, attributes, deleted, at) in enumerate(items, first)
    ]
    return lake.append(
        CATALOG,
        pa.Table.from_pylist(rows, SCHEMAS[CATALOG]),
        {Source("catalog.v1", "c", 0): first + len(rows) - 1},
    )
