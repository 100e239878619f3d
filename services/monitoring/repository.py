"""The repository of slates and of the interactions that follow, with their attribution in SQL.

It takes a batch of records in one transaction, and each record has its effect once. Any thread may
read; one thread at a time records. Attribution says which stored slates and responses belong
together, and counts them.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from typing import Any, Final, TypeVar

import orjson
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    and_,
    bindparam,
    delete,
    or_,
    select,
    update,
)

from services.monitoring import answers_repository as answers
from services.monitoring.answers import Latencies
from services.monitoring.attribution import (
    Arrivals,
    Bucket,
    Counts,
    Outcome,
    Response,
    ShownSlate,
    Tally,
    Watermark,
    join,
    outcome,
)
from services.monitoring.people.repository import keep_requests, keep_visitors
from services.monitoring.slate_tables import (
    model_events,
    quality,
    responses,
    samples,
    shadow_row,
    shadows,
    slates,
    watermarks,
)
from slipstream.contracts.events import ModelEvent
from slipstream.stores.metadata import (
    adding,
    chunks,
    database_time,
    insert_new,
    insert_rows,
    keeping_greater,
    replacing,
    upsert,
)

T = TypeVar("T")


def attribute(
    db: Connection,
    new_slates: Mapping[str, ShownSlate],
    new_responses: Mapping[str, Response],
    window_ms: int,
    now_ms: int,
) -> None:
    """Attribute the new responses, and stored ones that a new slate may have led to.

    The changes go on to the outcomes of slates, and to the counts.

    Args:
        db: The connection, in a transaction.
        new_slates: Slates that the tables don't have yet, by id.
        new_responses: Responses that the tables don't have yet, by event id.
        window_ms: Length of the attribution window.
        now_ms: Time at which the responses are stored.
    """
    known = _stored_responses(db, new_slates.values(), window_ms)
    considered = [*new_responses.values(), *(response for response, _ in known.values())]
    stored = _stored_slates(db, considered, window_ms)
    candidates = {**new_slates, **{slate_id: slate for slate_id, (slate, _) in stored.items()}}

    targets = join(candidates, considered, window_ms)
    moved = {
        event_id: to
        for event_id, to in targets.items()
        if event_id in known and to != known[event_id][1]
    }
    ends = [targets[event_id] for event_id in (*new_responses, *moved)] + [
        known[event_id][1] for event_id in moved
    ]
    touched = [candidates[slate_id] for slate_id in sorted({each for each in ends if each})]
    _insert_responses(db, new_responses.values(), targets, now_ms)
    _move_responses(db, moved)

    change = Tally()
    for slate in new_slates.values():
        change.add_slate(slate)
    before = {slate_id: so_far for slate_id, (_, so_far) in stored.items()}
    after = _outcomes(db, {slate.recommendation_id for slate in touched})
    for slate_id, now in after.items():
        change.add_change(candidates[slate_id], before.get(slate_id, Outcome()), now)
    _insert_slates(db, new_slates.values(), after)
    _update_outcomes(
        db,
        {slate_id: now for slate_id, now in after.items() if now != before.get(slate_id, now)},
    )
    upsert(
        db,
        quality,
        [bucket._asdict() | asdict(counts) for bucket, counts in change.buckets.items()],
        adding,
    )


def unknown(db: Connection, key: Column[str], records: Mapping[str, T]) -> dict[str, T]:
    """The records with keys that are not in the table."""
    known = {
        found for ids in chunks(records) for found in db.scalars(select(key).where(key.in_(ids)))
    }
    return {record_id: record for record_id, record in records.items() if record_id not in known}


def _stored_responses(
    db: Connection, new_slates: Collection[ShownSlate], window_ms: int
) -> dict[str, tuple[Response, str | None]]:
    """Stored responses that one of the new slates may have led to, each with its present slate.

    They name such a slate, or their visitor gave them within the window after the first one.
    """
    if not new_slates:
        return {}
    r = responses.c
    times = [slate.timestamp for slate in new_slates]
    in_time = r.timestamp.between(min(times), max(times) + window_ms)
    conditions: list[ColumnElement[bool]] = [
        r.named.in_(ids) for ids in chunks({slate.recommendation_id for slate in new_slates})
    ]
    conditions += [
        and_(r.user_id.in_(ids), in_time, r.named.is_(None))
        for ids in chunks({s.user_id for s in new_slates})
    ]
    columns = select(
        *(r.event_id, r.user_id, r.item_id, r.timestamp, r.converted, r.named, r.attributed)
    )
    return {
        row[0]: (Response(*row[:6]), row[6])
        for where in conditions
        for row in db.execute(columns.where(where))
    }


def _stored_slates(
    db: Connection, considered: Collection[Response], window_ms: int
) -> dict[str, tuple[ShownSlate, Outcome]]:
    """Stored slates that may have led to the responses, each with its outcome.

    The responses name them, or their visitor got them within the window before the last one.
    """
    s = slates.c
    named = {response.named for response in considered if response.named is not None}
    conditions: list[ColumnElement[bool]] = [s.recommendation_id.in_(ids) for ids in chunks(named)]
    unnamed = [response for response in considered if response.named is None]
    if unnamed:
        times = [response.timestamp for response in unnamed]
        in_time = s.timestamp.between(min(times) - window_ms, max(times))
        conditions += [
            and_(s.user_id.in_(ids), in_time)
            for ids in chunks({response.user_id for response in unnamed})
        ]
    columns = select(
        s.recommendation_id,
        s.user_id,
        s.timestamp,
        s.answered_by,
        s.model_version,
        s["items"],
        s.clicked,
        s.converted,
        *(s.experiment, s.variant, s.substituted, s.latency_ms),
    )
    return {
        row[0]: (_slate(row), Outcome(*row[6:8]))
        for where in conditions
        for row in db.execute(columns.where(where))
    }


def _slate(row: Any) -> ShownSlate:
    slate_id, user_id, timestamp, answered_by, version, items = row[:6]
    experiment, variant, substituted, latency_ms = row[8:]
    return ShownSlate(
        slate_id,
        user_id,
        timestamp,
        answered_by,
        version,
        frozenset(orjson.loads(items)),
        experiment or "",
        variant or "",
        substituted or "",
        latency_ms or 0.0,
    )


def _outcomes(db: Connection, slate_ids: Collection[str]) -> dict[str, Outcome]:
    """The outcome of each slate, from all responses attributed to it."""
    following: dict[str, list[tuple[str, bool]]] = {slate_id: [] for slate_id in slate_ids}
    columns = select(responses.c.attributed, responses.c.item_id, responses.c.converted)
    for ids in chunks(slate_ids):
        for slate_id, item_id, converted in db.execute(
            columns.where(responses.c.attributed.in_(ids))
        ):
            following[slate_id].append((item_id, converted))
    return {slate_id: outcome(pairs) for slate_id, pairs in following.items()}


def _insert_responses(
    db: Connection, new: Collection[Response], targets: Mapping[str, str | None], now_ms: int
) -> None:
    rows = [
        (
            response.event_id,
            response.user_id,
            response.item_id,
            response.timestamp,
            response.converted,
            response.named,
            targets[response.event_id],
            now_ms,
        )
        for response in new
    ]
    insert_rows(db, responses, rows)


def _move_responses(db: Connection, moved: Mapping[str, str | None]) -> None:
    if moved:
        statement = (
            update(responses)
            .where(responses.c.event_id == bindparam("id"))
            .values(attributed=bindparam("to"))
        )
        db.execute(statement, [{"id": event_id, "to": to} for event_id, to in moved.items()])


def _insert_slates(
    db: Connection,
    new: Collection[ShownSlate],
    outcomes: Mapping[str, Outcome],
) -> None:
    nothing = Outcome()
    rows = [
        (
            slate.recommendation_id,
            slate.user_id,
            slate.timestamp,
            slate.answered_by,
            slate.model_version,
            orjson.dumps(list(slate.items)).decode(),
            "{}",  # features
            *outcomes.get(slate.recommendation_id, nothing),
            slate.experiment or None,
            slate.variant or None,
            None,  # teams
            slate.substituted or None,
            slate.latency_ms,
            slate.placement or None,
        )
        for slate in new
    ]
    insert_rows(db, slates, rows)


def _update_outcomes(db: Connection, changed: Mapping[str, Outcome]) -> None:
    if changed:
        statement = update(slates).where(slates.c.recommendation_id == bindparam("id"))
        rows = [
            {"id": slate_id, "c": now.clicked, "p": now.converted}
            for slate_id, now in changed.items()
        ]
        db.execute(statement.values(clicked=bindparam("c"), converted=bindparam("p")), rows)


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
                attribute(db, new_slates, new_responses, self._window_ms, now_ms)
            answers.add_answers(db, arrivals.answers)
            insert_new(db, samples, [sample._asdict() for sample in arrivals.samples])
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

    def expire(
        self, *, slates_before: int, pending_before: int, counts_before: int, answers_before: int
    ) -> None:
        """Delete what is past its retention. Counts of deleted slates stay.

        Args:
            slates_before: Slates answered before this time go, with their responses.
            pending_before: Responses without a slate, stored before this time, go.
            counts_before: Counts of periods before this time go.
            answers_before: Sums of answers before this time go.
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
            answers.expire_answers(db, answers_before)

    def counts(self, since: int, until: int) -> dict[Bucket, Counts]:
        """Counts of the buckets that start in `since <= start < until`."""
        query = select(quality).where(quality.c.start >= since, quality.c.start < until)
        with self._engine.connect() as db:
            return {Bucket(*row[:3]): Counts(*row[3:]) for row in db.execute(query)}

    def answered(self, since: int, until: int) -> dict[Bucket, Counts]:
        """The lists answered in `since <= start < until`, by bucket; without their clicks."""
        return answers.answered(self._engine, since, until)

    def latencies(self, since: int) -> Latencies:
        """The latencies of the answers since a time (ms)."""
        return answers.latencies(self._engine, since)

    def rows_of(self, visitor_ids: Collection[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """All rows of these visitors, each with its kind: `slate`, `shadow`, `response`, `sample`.

        Each 1,000 are a transaction of their own, so that a slow reader holds no lock.
        """
        for kind, table, key in (
            ("slate", slates, slates.c.recommendation_id),
            ("shadow", shadows, shadows.c.recommendation_id),
            ("response", responses, responses.c.event_id),
        ):
            theirs = select(table).where(table.c.user_id.in_(visitor_ids)).order_by(key)
            last, more = "", True
            while more:
                with self._engine.connect() as db:
                    page = db.execute(theirs.where(key > last).limit(_ROWS_AT_ONCE)).all()
                for row in page:
                    last = row[0]
                    yield kind, dict(row._mapping)
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

    def latest_model_events(self, limit: int) -> list[ModelEvent]:
        """The newest `limit` model events, newest first."""
        query = select(model_events.c.body).order_by(model_events.c.timestamp.desc()).limit(limit)
        with self._engine.connect() as db:
            return [ModelEvent.model_validate_json(body) for body in db.scalars(query)]
