"""The repository of what the topics bring: answers' sums, shadows, samples, model events.

It takes a batch of records in one transaction, and each record has its effect once. Any thread may
read; one thread at a time records.
"""

from collections.abc import Collection, Iterator
from dataclasses import asdict
from typing import Any, Final, NamedTuple

from sqlalchemy import Engine, delete, select, tuple_

from services.monitoring import answers_repository as answers
from services.monitoring.answers import Latencies
from services.monitoring.arrivals import Arrivals, Watermark
from services.monitoring.people.repository import keep_requests, keep_visitors
from services.monitoring.probes import ServiceState
from services.monitoring.quality import Bucket, Counts
from services.monitoring.slate_tables import (
    model_events,
    samples,
    shadow_row,
    shadows,
    starts,
    watermarks,
)
from slipstream.contracts.events import ModelEvent, ModelEventType
from slipstream.stores.metadata import (
    database_time,
    insert_new,
    keeping_greater,
    replacing,
    upsert,
)

_ROWS_AT_ONCE: Final = 1_000


class Start(NamedTuple):
    """The start of an instance of a service, at a time (ms)."""

    at: int
    service: str


class RecordLog:
    """The repository of what the topics bring."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def ping(self) -> None:
        """Check that the database answers; raises when it does not."""
        with self._engine.connect() as db:
            db.execute(select(1))

    def agreed_time(self, now_ms: int) -> int:
        """The earlier of a machine's time and the database's (ms).

        What is old by it is old by both clocks. One clock that is ahead then deletes nothing early.
        """
        with self._engine.connect() as db:
            return min(now_ms, database_time(db))

    def record(self, arrivals: Arrivals, now_ms: int) -> None:
        """Take a batch: all of it or, when this raises, nothing.

        Recording a record again changes nothing.
        """
        with self._engine.begin() as db:
            answers.add_answers(db, arrivals.answers)
            insert_new(db, samples, [sample._asdict() for sample in arrivals.samples])
            insert_new(db, shadows, [shadow_row(*each) for each in arrivals.shadows])
            events = [
                {
                    "version": e.version,
                    "event": e.event.value,
                    "timestamp": e.timestamp,
                    "body": e.model_dump_json(),
                }
                for e in arrivals.model_events
            ]
            upsert(db, model_events, events, replacing)
            marks = [
                {"topic": topic, **asdict(mark)} for topic, mark in arrivals.watermarks.items()
            ]
            upsert(db, watermarks, marks, keeping_greater)
            keep_requests(db, arrivals.erasure_requests)
            keep_visitors(db, arrivals.erased_visitors, now_ms)

    def note_starts(self, services: Collection[ServiceState]) -> None:
        """Keep when the instances that answered have started."""
        told = [
            {"started_at": it.started_at, "service": it.name} for it in services if it.started_at
        ]
        with self._engine.begin() as db:
            insert_new(db, starts, told)

    def starts(self, limit: int) -> list[Start]:
        """The newest starts of services, oldest first."""
        newest = select(starts).order_by(starts.c.started_at.desc(), starts.c.service.desc())
        with self._engine.connect() as db:
            return [Start(*row) for row in db.execute(newest.limit(limit)).all()][::-1]

    def expire(self, *, shadows_before: int, answers_before: int, starts_before: int = 0) -> None:
        """Delete the shadows, the sums of answers and the starts from before their times (ms)."""
        with self._engine.begin() as db:
            db.execute(delete(starts).where(starts.c.started_at < starts_before))
            db.execute(delete(shadows).where(shadows.c.timestamp < shadows_before))
            answers.expire_answers(db, answers_before)

    def answered(self, since: int, until: int) -> dict[Bucket, Counts]:
        """The lists answered in `since <= start < until`, by bucket; without their clicks."""
        return answers.answered(self._engine, since, until)

    def latencies(self, since: int) -> Latencies:
        """The latencies of the answers since a time (ms)."""
        return answers.latencies(self._engine, since)

    def rows_of(self, visitor_ids: Collection[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """All rows of these visitors, each with its kind: `shadow` or `sample`.

        Each 1,000 shadows are a transaction of their own, so that a slow reader holds no lock.
        """
        key = shadows.c.recommendation_id
        theirs = select(shadows).where(shadows.c.user_id.in_(visitor_ids)).order_by(key)
        last, more = "", True
        while more:
            with self._engine.connect() as db:
                page = db.execute(theirs.where(key > last).limit(_ROWS_AT_ONCE)).all()
            for row in page:
                last = row[0]
                yield "shadow", dict(row._mapping)
            more = len(page) == _ROWS_AT_ONCE
        # At most one for each open window.
        with self._engine.connect() as db:
            c = samples.c
            of_theirs = select(samples).where(c.user_id.in_(visitor_ids))
            kept = db.execute(of_theirs.order_by(c.user_id, c.length_ms, c.start)).all()
        yield from (("sample", dict(row._mapping)) for row in kept)

    def watermarks(self) -> dict[str, Watermark]:
        """The watermark of each topic that anything was read from."""
        with self._engine.connect() as db:
            return {
                row.topic: Watermark(row.event_time, row.heard_at)
                for row in db.execute(select(watermarks))
            }

    def model_events(
        self,
        limit: int,
        kinds: Collection[ModelEventType] = tuple(ModelEventType),
        after: tuple[int, str] | None = None,
    ) -> list[ModelEvent]:
        """At most `limit` model events of these kinds, newest first.

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
