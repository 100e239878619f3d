"""Rows of the lake's tables, with as little as a test has to say."""

import zlib
from typing import Any

import pyarrow as pa

from slipstream.stores.lake import CATALOG, INTERACTIONS, RECOMMENDATIONS, SCHEMAS


def rows(*event_ids: str, date: str = "2026-01-01", **values: Any) -> pa.Table:
    """Interactions with these ids."""
    known = {
        "event_type": "view",
        "user_id": "u",
        "timestamp": 1,
        "received_at": 2,
        "received_date": date,
        "properties": "{}",
    }
    return pa.Table.from_pylist(
        [
            {**known, **_position(event_id), **values, "event_id": event_id}
            for event_id in event_ids
        ],
        schema=SCHEMAS[INTERACTIONS],
    )


def catalog_rows(*entities: tuple[str, str], **values: Any) -> pa.Table:
    """Catalogue records of (entity, id)."""
    known = {"attributes": "{}", "available": True, "deleted": False, "timestamp": 1, "source": ""}
    return pa.Table.from_pylist(
        [
            {**known, **values, "entity": entity, "entity_id": entity_id}
            for entity, entity_id in entities
        ],
        SCHEMAS[CATALOG],
    )


def slates(*user_ids: str, date: str = "2026-01-01") -> pa.Table:
    """A slate for each of the visitors."""
    known = {
        "timestamp": 1,
        "items": [],
        "answered_by": "model",
        "received_date": date,
        "features": "{}",
    }
    return pa.Table.from_pylist(
        [
            {
                **known,
                **_position(user_id),
                "recommendation_id": f"r-{user_id}",
                "user_id": user_id,
            }
            for user_id in user_ids
        ],
        SCHEMAS[RECOMMENDATIONS],
    )


def _position(name: str) -> dict[str, Any]:
    """A position that no other name has."""
    return {"topic_id": "topic-1", "partition": 3, "offset": zlib.crc32(name.encode())}
