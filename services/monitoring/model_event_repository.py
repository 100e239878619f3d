"""Queries on model events for the timeline. The consumer keeps them, with the slates."""

from collections.abc import Collection

from sqlalchemy import Engine, select, tuple_

from services.monitoring.slate_tables import model_events
from slipstream.contracts.events import ModelEvent, ModelEventType


class ModelEventLog:
    """The model events that monitoring has read."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def page(
        self, kinds: Collection[ModelEventType], limit: int, after: tuple[int, str] | None
    ) -> list[ModelEvent]:
        """At most `limit` events of these kinds, newest first.

        They begin after the position `after`: (timestamp, `version:event`).
        """
        place = model_events.c.version + ":" + model_events.c.event
        query = (
            select(model_events.c.body)
            .where(model_events.c.event.in_([kind.value for kind in kinds]))
            .order_by(model_events.c.timestamp.desc(), place.desc())
            .limit(limit)
        )
        if after is not None:
            query = query.where(tuple_(model_events.c.timestamp, place) < tuple_(*after))
        with self._engine.connect() as db:
            return [ModelEvent.model_validate_json(body) for body in db.scalars(query)]

    def decisions(self, versions: Collection[str]) -> dict[str, list[ModelEvent]]:
        """The refusals and promotions of each version, oldest first."""
        kinds = (ModelEventType.REFUSED.value, ModelEventType.PROMOTED.value)
        query = (
            select(model_events.c.body)
            .where(model_events.c.version.in_(versions), model_events.c.event.in_(kinds))
            .order_by(model_events.c.timestamp)
        )
        found: dict[str, list[ModelEvent]] = {}
        with self._engine.connect() as db:
            for body in db.scalars(query):
                event = ModelEvent.model_validate_json(body)
                found.setdefault(event.version, []).append(event)
        return found
