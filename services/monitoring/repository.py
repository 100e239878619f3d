"""The repository of slates and of the interactions that follow.

It takes a batch of records in one transaction, and each record has its effect once. Any thread may
read; one thread at a time records.
"""

from collections.abc import Collection, Iterator
from dataclasses import asdict
from typing import Any, Final

import orjson
from sqlalchemy import (
    Engine,
    delete,
    or_,
    select,
)

from services.monitoring.arrivals import Arrivals, Watermark
from services.monitoring.attribution import (
    Bucket,
    Counts,
)
from services.monitoring.attribution_repository import attribute, unknown
from services.monitoring.experiments.results_repository import shadow_row
from services.monitoring.people.repository import keep_requests, keep_visitors
from services.monitoring.slate_tables import (
    insert_new,
    keeping_greater,
    model_events,
    quality,
    replacing,
    responses,
    shadows,
    slates,
    upsert,
    watermarks,
)
from slipstream.contracts.events import ModelEvent
from slipstream.stores.metadata import database_time

_ROWS_AT_ONCE: Final = 1_000


class SlateLog:
    """The repository of slates, of the responses to them, and of the counts of both."""

    def __init__(self, engine: Engine, window_ms: int) -> None:
        self._engine = engine
        self._window_ms = window_ms

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
            new_slates = unknown(
                db, slates.c.recommendation_id, {s.recommendation_id: s for s in arrivals.slates}
            )
            new_responses = unknown(
                db, responses.c.event_id, {r.event_id: r for r in arrivals.responses}
            )
            if new_slates or new_responses:
                attribute(db, new_slates, new_responses, arrivals.features, self._window_ms, now_ms)
            insert_new(db, shadows, [shadow_row(slate) for slate in arrivals.shadows])
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

    def expire(self, *, slates_before: int, pending_before: int, counts_before: int) -> None:
        """Delete what is past its retention. Counts of deleted slates stay.

        Args:
            slates_before: Slates answered before this time go, with their responses.
            pending_before: Responses without a slate, stored before this time, go.
            counts_before: Counts of periods before this time go.
        """
        old = select(slates.c.recommendation_id).where(slates.c.timestamp < slates_before)
        with self._engine.begin() as db:
            # A response that came while its slate was erased names one that is not there.
            db.execute(
                delete(responses).where(
                    or_(responses.c.attributed.in_(old), responses.c.stored_at < slates_before)
                )
            )
            db.execute(delete(slates).where(slates.c.timestamp < slates_before))
            db.execute(delete(shadows).where(shadows.c.timestamp < slates_before))
            db.execute(
                delete(responses).where(
                    responses.c.stored_at < pending_before, responses.c.attributed.is_(None)
                )
            )
            db.execute(delete(quality).where(quality.c.start < counts_before))

    def counts(self, since: int, until: int) -> dict[Bucket, Counts]:
        """Counts of the buckets that start in `since <= start < until`."""
        query = select(quality).where(quality.c.start >= since, quality.c.start < until)
        with self._engine.connect() as db:
            return {Bucket(*row[:3]): Counts(*row[3:]) for row in db.execute(query)}

    def recent_features(self, since: int, limit: int) -> list[tuple[str, dict[str, float]]]:
        """Visitor and features of the newest `limit` slates of the model since a time, newest
        first.
        """
        query = (
            select(slates.c.user_id, slates.c.features)
            .where(slates.c.timestamp >= since, slates.c.answered_by == "model")
            .order_by(slates.c.timestamp.desc())
            .limit(limit)
        )
        with self._engine.connect() as db:
            return [(user_id, orjson.loads(features)) for user_id, features in db.execute(query)]

    def rows_of(self, visitor_ids: Collection[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """All rows of these visitors, each with its kind: `slate`, `shadow` or `response`.

        Each 1,000 are a transaction of their own, so that a slow reader holds no lock.
        """
        for kind, table, key in (
            ("slate", slates, slates.c.recommendation_id),
            ("shadow", shadows, shadows.c.recommendation_id),
            ("response", responses, responses.c.event_id),
        ):
            # The table's names are of a subclass of str, which JSON does not know.
            names = [str(column.name) for column in table.columns]
            theirs = select(table).where(table.c.user_id.in_(visitor_ids)).order_by(key)
            last, more = "", True
            while more:
                with self._engine.connect() as db:
                    page = db.execute(theirs.where(key > last).limit(_ROWS_AT_ONCE)).all()
                for row in page:
                    last = row[0]
                    yield kind, dict(zip(names, row, strict=True))
                more = len(page) == _ROWS_AT_ONCE

    def watermarks(self) -> dict[str, Watermark]:
        """The watermark of each topic that anything was read from."""
        with self._engine.connect() as db:
            return {
                row.topic: Watermark(row.event_time, row.heard_at)
                for row in db.execute(select(watermarks))
            }

    def latest_model_events(self, limit: int) -> list[ModelEvent]:
        """The newest `limit` model events, newest first."""
        query = select(model_events.c.body).order_by(model_events.c.timestamp.desc()).limit(limit)
        with self._engine.connect() as db:
            return [ModelEvent.model_validate_json(body) for body in db.scalars(query)]
