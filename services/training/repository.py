"""Runs, the gate's decisions as an audit record, and model events, in SQL.

Neither a restart nor an unavailable broker loses an event.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    Integer,
    Row,
    String,
    Table,
    Text,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from services.training.records import Audit, LastRun, RunRecord, TransitionError, leading_to
from slipstream.contracts.events import ModelEvent, ModelEventType
from slipstream.contracts.rest import Run
from slipstream.contracts.steps import StepUsage
from slipstream.contracts.times import now_ms
from slipstream.stores.metadata import audit_table, new_metadata

TABLES: Final = new_metadata()
AUDIT: Final = audit_table("training_audit", TABLES)
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


_run = Table(
    "training_run",
    TABLES,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("run_id", String(64), nullable=False, unique=True),
    Column("state", String(16), nullable=False, index=True),
    Column("trigger", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("profile", String(16), nullable=False),
    Column("stage", Text, nullable=False, default=""),
    Column("progress", Float, nullable=False, default=0.0),
    Column("epoch", Integer),
    Column("epochs", Integer),
    Column("loss", Float),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("error", Text),
    Column("lake_version", BigInteger),
    Column("lake_rows", BigInteger),
    Column("catalog_version", BigInteger),
    Column("model_version", String(128)),
    Column("decision", String(16)),
    Column("decision_reason", Text, nullable=False, default=""),
    Column("metrics", Text, nullable=False, default="{}"),
    # How often the run has been started, from 1.
    Column("attempt", Integer, nullable=False, default=1),
    # The HTTP request that the run came from; empty for a run that no person requested.
    Column("request_id", Text, nullable=False, server_default=""),
    # Of requests with one key that come at the same moment, to whichever replica, one adds a run.
    Column("key", String(128), unique=True),
    # What the run's process has reported about its steps, as JSON; empty before.
    Column("outputs", Text, nullable=False, server_default=""),
    Column("usage", Text, nullable=False, server_default=""),
    # When the shift began that it answers (ms).
    Column("onset", BigInteger),
)

_decision = Table(
    "gate_decision",
    TABLES,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("run_id", String(64), nullable=False, index=True),
    Column("model_version", String(128), nullable=False),
    Column("champion_version", String(128)),
    Column("outcome", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("numbers", Text, nullable=False),
    Column("settings", Text, nullable=False),
    Column("decided_at", BigInteger, nullable=False),
)

# What a run forgets when it starts again; it keeps the versions of the lake that it has read.
_BEFORE: Final = {
    "started_at": None,
    "stage": "",
    "progress": 0.0,
    "epoch": None,
    "epochs": None,
    "loss": None,
    "outputs": "",
}


class Repository:
    """Runs and decisions. Each method is one transaction; safe to use from several threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(
        self,
        run_id: str,
        trigger: str,
        reason: str,
        profile: str,
        request_id: str = "",
        key: str | None = None,
        onset: int | None = None,
    ) -> Run:
        """Queue a run, or return the one that another request with the key has queued just now."""
        row = {
            "run_id": run_id,
            "state": "queued",
            "trigger": trigger,
            "reason": reason,
            "profile": profile,
            "request_id": request_id,
            "created_at": now_ms(),
            "key": key,
            "onset": onset,
        }
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(_run).values(row))
                return _to_run(_one(connection, run_id))
        except IntegrityError:
            if key is None or (queued := self.get(key)) is None:
                raise
            return queued

    def queue_again(self, run_id: str, error: str) -> Run:
        """Queue a running run for its next attempt; `error` says why this one ended."""
        return self._move(run_id, "queued", attempt=_run.c.attempt + 1, error=error, **_BEFORE)

    def get(self, name: str) -> Run | None:
        """The run with this id or key."""
        named = select(_run).where((_run.c.run_id == name) | (_run.c.key == name))
        with self._engine.connect() as connection:
            row = connection.execute(named.order_by(_run.c.number).limit(1)).one_or_none()
        return _to_run(row) if row else None

    def request_id(self, run_id: str) -> str:
        """The id of the HTTP request that the run came from, empty where there was none."""
        with self._engine.connect() as connection:
            return str(_one(connection, run_id).request_id)

    def page(self, limit: int, before: int | None = None) -> tuple[list[Run], int | None]:
        """Runs before a number, newest first; the number for the next page, None on the last."""
        query = select(_run).order_by(_run.c.number.desc()).limit(limit + 1)
        if before is not None:
            query = query.where(_run.c.number < before)
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        following = rows[limit - 1].number if len(rows) > limit else None
        return [_to_run(row) for row in rows[:limit]], following

    def in_state(self, *states: str) -> list[Run]:
        """Runs in any of these states, oldest first."""
        with self._engine.connect() as connection:
            rows = connection.execute(
                select(_run).where(_run.c.state.in_(states)).order_by(_run.c.number)
            ).all()
        return [_to_run(row) for row in rows]

    def last_run(self) -> LastRun | None:
        """The newest run, None before any, and the lake as it was last read."""
        newest_first = select(_run).order_by(_run.c.number.desc()).limit(1)
        with self._engine.connect() as connection:
            newest = connection.execute(newest_first).one_or_none()
            reader = connection.execute(
                newest_first.where(_run.c.lake_rows.is_not(None))
            ).one_or_none()
        if newest is None:
            return None
        refused = newest.onset if newest.decision == "refused" else None
        last = LastRun(
            newest.created_at, newest.finished_at, None, number=newest.number, unanswered=refused
        )
        seen = ("lake_rows", "lake_version", "catalog_version")
        return replace(last, **{name: getattr(reader, name) for name in seen}) if reader else last

    def start(self, run_id: str) -> Run:
        """Move a run from queued to running."""
        return self._move(run_id, "running", started_at=now_ms())

    def finish(self, run_id: str, state: str, **outcome: Any) -> Run:
        """Move a run to an end, with its error, or its model and decision, by column names.

        A queued run can only be cancelled.
        """
        return self._move(run_id, state, finished_at=now_ms(), **{"error": None, **outcome})

    def note(self, run_id: str, **progress: Any) -> None:
        """Record the progress of a running run, by column names.

        `usage` is that of one attempt; what earlier ones have used is kept.
        """
        running = (_run.c.run_id == run_id, _run.c.state == "running")
        with self._engine.begin() as connection:
            if usage := progress.get("usage"):
                kept = connection.scalar(select(_run.c.usage).where(*running))
                starts = {used["start"] for used in usage}
                earlier = [it for it in json.loads(kept or "[]") if it["start"] not in starts]
                progress["usage"] = earlier + usage
            connection.execute(update(_run).where(*running).values(_as_text(progress)))

    def reported(self, run_id: str) -> RunRecord:
        """The run, with what its processes have reported about its steps."""
        with self._engine.connect() as connection:
            row = _one(connection, run_id)
        return RunRecord(
            _to_run(row),
            json.loads(row.outputs or "{}"),
            [StepUsage.model_validate(used) for used in json.loads(row.usage or "[]")],
        )

    def record(self, audit: Audit, events: Sequence[ModelEvent] = (), request_id: str = "") -> None:
        """Keep a decision, and its model events in the same transaction (see `ModelEventBook`).

        Decisions are never changed.
        """
        row = {
            **{
                name: getattr(audit, name)
                for name in ("run_id", "model_version", "champion_version", "outcome", "reason")
            },
            "numbers": json.dumps(dict(audit.numbers)),
            "settings": json.dumps(dict(audit.settings)),
            "decided_at": audit.decided_at or now_ms(),
        }
        with self._engine.begin() as connection:
            connection.execute(insert(_decision).values(row))
            insert_events(connection, events, request_id)

    def decisions(self, run_id: str) -> list[Audit]:
        """The decisions of a run, in order."""
        with self._engine.connect() as connection:
            rows = connection.execute(
                select(_decision).where(_decision.c.run_id == run_id).order_by(_decision.c.number)
            ).all()
        return [
            Audit(
                row.run_id, row.model_version, row.champion_version, row.outcome, row.reason,
                json.loads(row.numbers), json.loads(row.settings), row.decided_at,
            )
            for row in rows
        ]  # fmt: skip

    def check(self) -> None:
        """Raises when the database does not answer."""
        with self._engine.connect() as connection:
            connection.execute(select(literal(1)))

    def _move(self, run_id: str, state: str, **values: Any) -> Run:
        with self._engine.begin() as connection:
            _move(connection, run_id, state, **values)
            return _to_run(_one(connection, run_id))


def _as_text(values: dict[str, Any]) -> dict[str, Any]:
    """The values of columns; dicts and lists as JSON."""
    return {
        name: json.dumps(value) if isinstance(value, dict | list) else value
        for name, value in values.items()
    }


def _move(connection: Connection, run_id: str, state: str, **values: Any) -> None:
    # The condition makes the move safe against another at the same moment: only the first of them
    # meets the old state.
    possible = update(_run).where(_run.c.run_id == run_id, _run.c.state.in_(leading_to(state)))
    if connection.execute(possible.values(state=state, **_as_text(values))).rowcount != 1:
        raise TransitionError(
            f"run {run_id} is {_one(connection, run_id).state} and can't become {state}"
        )


def _one(connection: Connection, run_id: str) -> Row[Any]:
    row = connection.execute(select(_run).where(_run.c.run_id == run_id)).one_or_none()
    if row is None:
        raise LookupError(f"there is no run {run_id}")
    return row


def _to_run(row: Row[Any]) -> Run:
    shared = {
        name: value
        for name, value in row._mapping.items()
        if name in Run.model_fields and name != "metrics"
    }
    return Run(**shared, metrics=json.loads(row.metrics))
