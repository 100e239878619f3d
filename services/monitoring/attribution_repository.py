"""The SQL of attribution: which stored slates and responses belong together, and the counts."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import TypeVar

import orjson
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    and_,
    bindparam,
    select,
    update,
)

from services.monitoring.attribution import (
    Outcome,
    Response,
    ShownSlate,
    Tally,
    join,
    outcome,
)
from services.monitoring.slate_tables import (
    adding,
    insert_rows,
    quality,
    responses,
    slates,
    upsert,
)

# Bound parameters of one statement; SQLite allows 32,766.
_IDS_AT_ONCE = 1_000


T = TypeVar("T")


def attribute(
    db: Connection,
    new_slates: Mapping[str, ShownSlate],
    new_responses: Mapping[str, Response],
    features: Mapping[str, Mapping[str, float]],
    window_ms: int,
    now_ms: int,
) -> None:
    """Attribute the new responses, and stored ones that a new slate may have led to.

    The changes go on to the outcomes of slates and to the counts.

    Args:
        db: The connection, in a transaction.
        new_slates: Slates that the tables don't have yet, by id.
        new_responses: Responses that the tables don't have yet, by event id.
        features: The features of the new slates, by id.
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
    _insert_responses(db, new_responses.values(), targets, now_ms)
    _move_responses(db, moved)

    change = Tally()
    for slate in new_slates.values():
        change.add_slate(slate)
    before = {slate_id: so_far for slate_id, (_, so_far) in stored.items()}
    after = _outcomes(db, {slate_id for slate_id in ends if slate_id is not None})
    for slate_id, now in after.items():
        change.add_change(candidates[slate_id], before.get(slate_id, Outcome()), now)
    _insert_slates(db, new_slates.values(), features, after)
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


def _chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    ordered = sorted(ids)
    return (ordered[begin : begin + _IDS_AT_ONCE] for begin in range(0, len(ordered), _IDS_AT_ONCE))


def unknown(db: Connection, key: Column[str], records: Mapping[str, T]) -> dict[str, T]:
    """The records whose key is not in the table."""
    known = {
        found for ids in _chunks(records) for found in db.scalars(select(key).where(key.in_(ids)))
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
        r.named.in_(ids) for ids in _chunks({slate.recommendation_id for slate in new_slates})
    ]
    conditions += [
        and_(r.user_id.in_(ids), in_time, r.named.is_(None))
        for ids in _chunks({s.user_id for s in new_slates})
    ]
    columns = select(
        r.event_id, r.user_id, r.item_id, r.timestamp, r.converted, r.named, r.attributed
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
    conditions: list[ColumnElement[bool]] = [s.recommendation_id.in_(ids) for ids in _chunks(named)]
    unnamed = [response for response in considered if response.named is None]
    if unnamed:
        times = [response.timestamp for response in unnamed]
        in_time = s.timestamp.between(min(times) - window_ms, max(times))
        conditions += [
            and_(s.user_id.in_(ids), in_time)
            for ids in _chunks({response.user_id for response in unnamed})
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
    )
    return {
        row[0]: (ShownSlate(*row[:5], frozenset(orjson.loads(row[5]))), Outcome(*row[6:]))
        for where in conditions
        for row in db.execute(columns.where(where))
    }


def _outcomes(db: Connection, slate_ids: Collection[str]) -> dict[str, Outcome]:
    """The outcome of each slate, from all responses attributed to it."""
    following: dict[str, list[tuple[str, bool]]] = {slate_id: [] for slate_id in slate_ids}
    columns = select(responses.c.attributed, responses.c.item_id, responses.c.converted)
    for ids in _chunks(slate_ids):
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
    features: Mapping[str, Mapping[str, float]],
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
            orjson.dumps(features.get(slate.recommendation_id, {})).decode(),
            *outcomes.get(slate.recommendation_id, nothing),
            slate.experiment or None,
            slate.variant or None,
            orjson.dumps(dict(slate.teams)).decode() if slate.teams else None,
            slate.substituted or None,
            slate.latency_ms,
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
