"""Conversion of records into rows of the lake, and of rows back into records."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import orjson
import pyarrow as pa

from slipstream.broker.batch import Message
from slipstream.contracts.events import CatalogRecord, Interaction
from slipstream.contracts.positions import StreamInteraction, source_name
from slipstream.contracts.slates import RecordedSlate
from slipstream.contracts.times import DAY_MS
from slipstream.contracts.topics import CATALOG, INTERACTIONS, PEOPLE, RECOMMENDATIONS
from slipstream.stores import lake

Row = tuple[Any, ...]

# Columns of an interaction that folding reads.
FOLDED_COLUMNS: Final = (
    "event_id", "event_type", "user_id", "anonymous_id", "item_id", "timestamp", "received_at",
    "value", "topic_id", "partition", "offset",
)  # fmt: skip
# Fields of an interaction that no feature reads. They are given here, since filling in defaults
# costs more than all the rest.
_UNREAD: Final[dict[str, Any]] = {
    "session_id": None, "recommendation_id": None, "position": None, "source": "",
    "properties": {}, "maybe_repeat": False, "imported": False,
}  # fmt: skip


def interaction_row(message: Message[Interaction]) -> Row:
    """An interaction as a row, in the order of the table's columns."""
    event = message.record
    return (
        event.event_id,
        event.event_type,
        event.user_id,
        event.item_id,
        event.timestamp,
        event.received_at,
        event.anonymous_id,
        event.session_id,
        event.value,
        event.recommendation_id,
        event.position,
        event.source,
        _json(event.properties),
        *_position(message),
        _date(event.received_at),
        event.maybe_repeat,
    )


def catalog_row(message: Message[CatalogRecord]) -> Row:
    """A catalogue record as a row, in the order of the table's columns."""
    entry = message.record
    return (
        entry.entity,
        entry.entity_id,
        _json(entry.attributes),
        entry.available,
        entry.deleted,
        entry.timestamp,
        entry.source,
        *_position(message),
        entry.by_browser,
        entry.client_time,
        entry.erasure_id or None,
        _json(entry.cut) if entry.cut else None,
        entry.proven,
    )


def slate_row(message: Message[RecordedSlate]) -> Row:
    """A slate as a row, in the order of the table's columns."""
    slate = message.record
    return (
        slate.recommendation_id,
        slate.user_id,
        slate.timestamp,
        [
            {"item_id": item.item_id, "score": item.score, "source": item.source}
            for item in slate.items
        ],
        slate.answered_by,
        slate.model_version,
        slate.variant,
        slate.placement,
        _json(slate.features),
        slate.latency_ms,
        *_position(message),
        _date(slate.timestamp),
        slate.purpose,
        slate.experiment or None,
        slate.teams or None,
        slate.placement_revision,
        slate.circumstances_json or None,
        slate.substituted or None,
        slate.shadow_of or None,
    )


# Table and conversion of a topic's records, by the topic's name.
TABLES: Final[dict[str, tuple[str, Callable[[Message[Any]], Row]]]] = {
    INTERACTIONS.name: (lake.INTERACTIONS, interaction_row),
    CATALOG.name: (lake.CATALOG, catalog_row),
    PEOPLE.name: (lake.CATALOG, catalog_row),
    RECOMMENDATIONS.name: (lake.RECOMMENDATIONS, slate_row),
}


def as_table(table: str, rows: Sequence[Row]) -> pa.Table:
    """Rows, each in the order of the table's columns, as an Arrow table."""
    schema = lake.SCHEMAS[table]
    arrays = [
        pa.array(column, kind)
        for column, kind in zip(zip(*rows, strict=True), schema.types, strict=True)
    ]
    return pa.table(arrays, schema=schema)


def stream_interactions(columns: Mapping[str, Sequence[Any]]) -> list[StreamInteraction]:
    """Interactions with their positions, from rows of the lake given as their `FOLDED_COLUMNS`.

    Missing values are None or NaN.
    """
    records = []
    for row in zip(*(columns[name] for name in FOLDED_COLUMNS), strict=True):
        (
            event_id,
            event_type,
            user_id,
            anonymous_id,
            item_id,
            timestamp,
            received_at,
            value,
            topic_id,
            partition,
            offset,
        ) = row
        # The lake holds what was validated on its way in.
        interaction = Interaction.model_construct(
            event_id=event_id,
            event_type=event_type,
            user_id=user_id,
            anonymous_id=anonymous_id if isinstance(anonymous_id, str) else None,
            item_id=item_id if isinstance(item_id, str) else None,
            timestamp=timestamp,
            received_at=received_at,
            value=None if value is None or value != value else value,
            **_UNREAD,
        )
        records.append(StreamInteraction(source_name(topic_id, partition), offset, interaction))
    return records


def _position(message: Message[Any]) -> tuple[str, int, int]:
    return message.source.topic_id, message.source.partition, message.offset


def _json(value: dict[str, Any]) -> str:
    if not value:
        return "{}"
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # A whole number of more than 64 bits.
        return json.dumps(value, ensure_ascii=False)


def _date(millis: int) -> str:
    return _date_of_day(millis // DAY_MS)


@lru_cache(maxsize=4096)
def _date_of_day(day: int) -> str:
    return datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y-%m-%d")
