"""The training service's tables: runs, and the gate's decisions as an audit record. The only place
that knows their SQL.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
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

from services.training.model_event_repository import insert_events
from slipstream.contracts.events import ModelEvent
from slipstream.contracts.rest import Run
from slipstream.contracts.times import now_ms
from slipstream.stores.metadata import new_metadata

TABLES: Final = new_metadata()

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
    # when a running run should end
    Column("expected_at", BigInteger),
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
    # seconds of each stage of a run that has succeeded, in their order
    Column("seconds", Text, nullable=False, server_default="{}"),
    # how many runs have tried to do the same work, with this one
    Column("attempt", Integer, nullable=False, default=1),
    # the first of them, and the one after this one
    Column("resumes", String(64)),
    Column("resumed_by", String(64)),
    # the request that the run came from; empty for one that nobody asked for
    Column("request_id", Text, nullable=False, server_default=""),
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

# What a run that takes up the work of another one has from it.
_CARRIED: Final = (
    "trigger",
    "reason",
    "profile",
    "request_id",
    "lake_version",
    "lake_rows",
    "catalog_version",
)

# Where a run may go from each state. A run that has ended never moves again.
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
    """What the triggers must know of the newest run: when it ended (None while it has not), and
    what the last run that read the lake found there.
    """

    created_at: int
    finished_at: int | None
    lake_rows: int | None
    catalog_version: int | None = None


class Repository:
    """Runs and decisions in SQL. Each method is one transaction; safe to use from several threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(
        self, run_id: str, trigger: str, reason: str, profile: str, request_id: str = ""
    ) -> Run:
        """Queue a run."""
        row = {
            "run_id": run_id, "state": "queued", "trigger": trigger, "reason": reason, "profile": profile,
            "request_id": request_id, "created_at": now_ms(),
        }  # fmt: skip
        with self._engine.begin() as connection:
            connection.execute(insert(_run).values(row))
            return _to_run(_one(connection, run_id))

    def resume(self, run_id: str, new_id: str, error: str) -> Run:
        """running → failed, and its work is queued as a new run, which knows what of the lake it
        had read; the failed run.
        """
        with self._engine.begin() as connection:
            _move(
                connection, run_id, "failed", finished_at=now_ms(), error=error, resumed_by=new_id
            )
            failed = _one(connection, run_id)
            carried = {name: failed._mapping[name] for name in _CARRIED}
            row = {
                **carried, "run_id": new_id, "state": "queued", "attempt": failed.attempt + 1,
                "resumes": failed.resumes or run_id, "created_at": now_ms(),
            }  # fmt: skip
            connection.execute(insert(_run).values(row))
        return _to_run(failed)

    def get(self, run_id: str) -> Run | None:
        with self._engine.connect() as connection:
            row = connection.execute(select(_run).where(_run.c.run_id == run_id)).one_or_none()
        return _to_run(row) if row else None

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
        return [_to_run(row) for row in rows[:limit]], rows[limit - 1].number if len(
            rows
        ) > limit else None

    def in_state(self, *states: str) -> list[Run]:
        """Runs in any of these states, oldest first."""
        with self._engine.connect() as connection:
            rows = connection.execute(
                select(_run).where(_run.c.state.in_(states)).order_by(_run.c.number)
            ).all()
        return [_to_run(row) for row in rows]

    def last_run(self) -> LastRun | None:
        """The newest run, and what the last run that read the lake found there."""
        newest_first = select(_run).order_by(_run.c.number.desc()).limit(1)
        with self._engine.connect() as connection:
            newest = connection.execute(newest_first).one_or_none()
            reader = connection.execute(
                newest_first.where(_run.c.lake_rows.is_not(None))
            ).one_or_none()
        if newest is None:
            return None
        found = (reader.lake_rows, reader.catalog_version) if reader else (None, None)
        return LastRun(newest.created_at, newest.finished_at, *found)

    def stage_seconds(self, profile: str) -> dict[str, float]:
        """How long each stage of the last run of a profile took that succeeded at once, in their
        order; empty without one.
        """
        at_once = (
            _run.c.state == "succeeded",
            _run.c.seconds != "{}",
            _run.c.attempt == 1,
            _run.c.profile == profile,
        )
        with self._engine.connect() as connection:
            found = connection.scalar(
                select(_run.c.seconds).where(*at_once).order_by(_run.c.number.desc()).limit(1)
            )
        return dict(json.loads(found or "{}"))

    def start(self, run_id: str) -> Run:
        """queued → running."""
        return self._move(run_id, "running", started_at=now_ms())

    def finish(self, run_id: str, state: str, **outcome: Any) -> Run:
        """running (or, for a cancellation, queued) → an end, with its error or its model and
        decision.
        """
        return self._move(run_id, state, finished_at=now_ms(), **outcome)

    def note(self, run_id: str, **progress: Any) -> None:
        """Record how far a running run is, by the names of the columns."""
        with self._engine.begin() as connection:
            connection.execute(
                update(_run)
                .where(_run.c.run_id == run_id, _run.c.state == "running")
                .values(progress)
            )

    def record(self, audit: Audit, events: Sequence[ModelEvent] = (), request_id: str = "") -> None:
        """Keep a decision, and with it what is to be told of it (see `ModelEventBook`); records are
        never changed.
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


def _move(connection: Connection, run_id: str, state: str, **values: Any) -> None:
    as_text = {name: json.dumps(value) for name, value in values.items() if isinstance(value, dict)}
    # The condition makes the move safe against another one at the same moment: only one of them
    # finds the old state.
    possible = update(_run).where(_run.c.run_id == run_id, _run.c.state.in_(_leading_to(state)))
    if connection.execute(possible.values(state=state, **(values | as_text))).rowcount != 1:
        raise TransitionError(
            f"run {run_id} is {_one(connection, run_id).state} and can't become {state}"
        )


def _leading_to(state: str) -> Iterable[str]:
    return [before for before, after in TRANSITIONS.items() if state in after]


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
    left_ms = (
        row.expected_at - now_ms() if row.state == "running" and row.expected_at is not None else 0
    )
    return Run(
        **shared,
        metrics=json.loads(row.metrics),
        eta_s=round(left_ms / 1000) if left_ms > 0 else None,
    )
