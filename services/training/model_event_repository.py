"""Model events in SQL, so that neither a restart nor a broker that is away loses one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Engine,
    Integer,
    String,
    Table,
    Text,
    insert,
    literal,
    select,
    update,
)

from slipstream.contracts.events import ModelEvent, ModelEventType
from slipstream.stores.metadata import new_metadata

TABLES: Final = new_metadata()
_model_event: Final = Table(
    "training_model_event",
    TABLES,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("version", String(128), nullable=False, index=True),
    Column("event", String(16), nullable=False),
    Column("body", Text, nullable=False),
    # The HTTP request that it came from; empty where there was none.
    Column("request_id", Text, nullable=False),
    Column("announced", Boolean, nullable=False, index=True),
)


@dataclass(frozen=True)
class WaitingEvent:
    """A model event that the broker has not acknowledged; `number` is its place in the order."""

    number: int
    event: ModelEvent
    request_id: str


class ModelEventBook:
    """Model events in the order in which they happened.

    Each method is one transaction; safe to use from several threads.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, event: ModelEvent, request_id: str) -> None:
        """Keep an event, to be announced."""
        with self._engine.begin() as connection:
            insert_events(connection, [event], request_id)

    def has(self, version: str, event: ModelEventType) -> bool:
        """Whether the version has an event of this type, announced or not."""
        same = (_model_event.c.version == version, _model_event.c.event == event.value)
        with self._engine.connect() as connection:
            return connection.scalar(select(literal(1)).where(*same).limit(1)) is not None

    def newest(self, event: ModelEventType) -> int:
        """When the newest event of this type happened (ms); 0 for none."""
        return max((each.timestamp for each in self._all(event)), default=0)

    def rolled_back(self) -> set[str]:
        """The versions that a person has replaced by an earlier one."""
        return {each.previous or "" for each in self._all(ModelEventType.ROLLED_BACK)}

    def unannounced(self) -> list[WaitingEvent]:
        """Events that the broker has not acknowledged, in order."""
        with self._engine.connect() as connection:
            rows = connection.execute(
                select(_model_event)
                .where(~_model_event.c.announced)
                .order_by(_model_event.c.number)
            ).all()
        return [
            WaitingEvent(row.number, ModelEvent.model_validate_json(row.body), row.request_id)
            for row in rows
        ]

    def _all(self, event: ModelEventType) -> list[ModelEvent]:
        with self._engine.connect() as connection:
            bodies = connection.scalars(
                select(_model_event.c.body).where(_model_event.c.event == event.value)
            ).all()
        return [ModelEvent.model_validate_json(body) for body in bodies]

    def mark_announced(self, number: int) -> None:
        """Note that the broker has acknowledged an event."""
        with self._engine.begin() as connection:
            connection.execute(
                update(_model_event).where(_model_event.c.number == number).values(announced=True)
            )


def insert_events(connection: Connection, events: Sequence[ModelEvent], request_id: str) -> None:
    """Add events in the caller's transaction: they are kept with their cause or not at all."""
    for event in events:
        row = {
            "version": event.version,
            "event": event.event.value,
            "body": event.model_dump_json(),
            "request_id": request_id,
        }
        connection.execute(insert(_model_event).values(**row, announced=False))
