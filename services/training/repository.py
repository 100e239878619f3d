"""The training service's tables: runs, and the gate's decisions as an audit record. The only place that knows their SQL."""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
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

from slipstream.contracts.rest import Run
from slipstream.stores.metadata import new_metadata, prepare

_metadata = new_metadata()

_run = Table(
    "training_run",
    _metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("run_id", String(64), nullable=False, unique=True),
    Column("state", String(16), nullable=False, index=True),
    Column("trigger", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("profile", String(16), nullable=False),
    Column("stage", Text, nullable=False, default=""),
    Column("progress", Float, nullable=False, default=0.0),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("error", Text),
    Column("lake_version", BigInteger),
    Column("lake_rows", BigInteger),
    Column("model_version", String(128)),
    Column("decision", String(16)),
    Column("decision_reason", Text, nullable=False, default=""),
    Column("metrics", Text, nullable=False, default="{}"),
    #: how many times work was lost to a stop before this run took it up
    Column("attempt", Integer, nullable=False, default=1),
    #: the request that the run came from; empty for one that nobody asked for
    Column("request_id", Text, nullable=False, server_default=""),
)

_decision = Table(
    "gate_decision",
    _metadata,
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

_MIGRATIONS: Final = (("ALTER TABLE training_run ADD COLUMN request_id TEXT NOT NULL DEFAULT ''",),)

#: Where a run may go from each state. A run that has ended never moves again.
TRANSITIONS: Final[Mapping[str, frozenset[str]]] = {
    "queued": frozenset({"running", "cancelled"}),
    "running": frozenset({"succeeded", "failed", "cancelled"}),
    "succeeded": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}
ENDED: Final = frozenset(state for state, following in TRANSITIONS.items() if not following)


class TransitionError(Exception):
    """The run is in a state from which it can't go there."""


@dataclass(frozen=True)
class Audit:
    """One decision of the gate, with everything it rested on."""

    run_id: str
    model_version: str
    champion_version: str | None
    outcome: str
    reason: str
    numbers: Mapping[str, float]
    settings: Mapping[str, Any] = field(default_factory=dict)
    decided_at: int = 0


@dataclass(frozen=True)
class LastRun:
    """What the triggers must know of the newest run: when it ended (None while it has not), and the rows it read."""

    created_at: int
    finished_at: int | None
    lake_rows: int | None


class Repository:
    """Runs and decisions in SQL. Each method is one transaction; safe to use from several threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        prepare(engine, "training", _metadata, _MIGRATIONS)

    def add(self, run_id: str, trigger: str, reason: str, profile: str, attempt: int = 1, request_id: str = "") -> Run:
        """Queue a run."""
        row = {
            "run_id": run_id, "state": "queued", "trigger": trigger, "reason": reason, "profile": profile,
            "attempt": attempt, "request_id": request_id, "created_at": now_ms(),
        }  # fmt: skip
        with self._engine.begin() as connection:
            connection.execute(insert(_run).values(row))
            return _to_run(_one(connection, run_id))

    def get(self, run_id: str) -> Run | None:
        with self._engine.connect() as connection:
            row = connection.execute(select(_run).where(_run.c.run_id == run_id)).one_or_none()
        return _to_run(row) if row else None

    def attempt(self, run_id: str) -> int:
        """Which attempt at the same work the run is, 1 for the first."""
        with self._engine.connect() as connection:
            return int(_one(connection, run_id).attempt)

    def request_id(self, run_id: str) -> str:
        """The id of the request that the run came from, empty where there was none."""
        with self._engine.connect() as connection:
            return str(_one(connection, run_id).request_id)

    def page(self, limit: int, before: int | None = None) -> tuple[list[Run], int | None]:
        """Runs, newest first, those before a number; and the number to go on from, None at the end."""
        query = select(_run).order_by(_run.c.number.desc()).limit(limit + 1)
        if before is not None:
            query = query.where(_run.c.number < before)
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        return [_to_run(row) for row in rows[:limit]], rows[limit - 1].number if len(rows) > limit else None

    def in_state(self, *states: str) -> list[Run]:
        """Runs in any of these states, oldest first."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(_run).where(_run.c.state.in_(states)).order_by(_run.c.number)).all()
        return [_to_run(row) for row in rows]

    def last_run(self) -> LastRun | None:
        """The newest run, and how many rows of the lake the last run that read it saw."""
        with self._engine.connect() as connection:
            newest = connection.execute(select(_run).order_by(_run.c.number.desc()).limit(1)).one_or_none()
            reading = select(_run.c.lake_rows).where(_run.c.lake_rows.is_not(None)).order_by(_run.c.number.desc()).limit(1)
            rows = connection.scalar(reading)
        return LastRun(newest.created_at, newest.finished_at, rows) if newest else None

    def start(self, run_id: str) -> Run:
        """queued → running."""
        return self._move(run_id, "running", started_at=now_ms())

    def finish(self, run_id: str, state: str, **outcome: Any) -> Run:
        """running (or, for a cancellation, queued) → an end, with its error or its model and decision."""
        return self._move(run_id, state, finished_at=now_ms(), **outcome)

    def note(self, run_id: str, **progress: Any) -> None:
        """Record how far a running run is: stage, progress, lake_version, lake_rows."""
        with self._engine.begin() as connection:
            connection.execute(update(_run).where(_run.c.run_id == run_id, _run.c.state == "running").values(progress))

    def record(self, audit: Audit) -> None:
        """Keep a decision; records are never changed."""
        row = {
            **{name: getattr(audit, name) for name in ("run_id", "model_version", "champion_version", "outcome", "reason")},
            "numbers": json.dumps(dict(audit.numbers)),
            "settings": json.dumps(dict(audit.settings)),
            "decided_at": audit.decided_at or now_ms(),
        }
        with self._engine.begin() as connection:
            connection.execute(insert(_decision).values(row))

    def decisions(self, run_id: str) -> list[Audit]:
        """The decisions of a run, in order."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(_decision).where(_decision.c.run_id == run_id).order_by(_decision.c.number)).all()
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
        if "metrics" in values:
            values["metrics"] = json.dumps(values["metrics"])
        with self._engine.begin() as connection:
            # The condition makes the move safe against another one at the same moment: only one of them finds the old state.
            allowed = _leading_to(state)
            moved = connection.execute(
                update(_run).where(_run.c.run_id == run_id, _run.c.state.in_(allowed)).values(state=state, **values)
            )
            row = _one(connection, run_id)
        if moved.rowcount != 1:
            raise TransitionError(f"run {run_id} is {row.state} and can't become {state}")
        return _to_run(row)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def _leading_to(state: str) -> Iterable[str]:
    return [before for before, after in TRANSITIONS.items() if state in after]


def _one(connection: Connection, run_id: str) -> Row[Any]:
    row = connection.execute(select(_run).where(_run.c.run_id == run_id)).one_or_none()
    if row is None:
        raise LookupError(f"there is no run {run_id}")
    return row


def _to_run(row: Row[Any]) -> Run:
    shared = {name: value for name, value in row._mapping.items() if name in Run.model_fields and name != "metrics"}
    return Run(**shared, metrics=json.loads(row.metrics))
