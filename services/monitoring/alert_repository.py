"""The SQL tables of alerts, and every query on them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, NamedTuple

import orjson
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Integer,
    Row,
    String,
    Table,
    Text,
    and_,
    func,
    select,
    tuple_,
    update,
)

from services.monitoring.alert_rules import (
    Acknowledgement,
    Alert,
    Attempt,
    Delivery,
    Streak,
    Transition,
)
from services.monitoring.slate_tables import AUDIT
from slipstream.contracts.events import Severity
from slipstream.contracts.rest import AuditRecord
from slipstream.stores.metadata import insert_audit, insert_new, new_metadata, replacing, upsert

TABLES: Final = new_metadata()

streaks_table = Table(
    "monitoring_streaks",
    TABLES,
    Column("rule", String, primary_key=True),
    Column("failing", Integer, nullable=False),
    Column("passing", Integer, nullable=False),
)
alerts = Table(
    "monitoring_alerts",
    TABLES,
    Column("alert_id", String, primary_key=True),
    Column("rule", String, nullable=False),
    Column("severity", String, nullable=False),
    Column("summary", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("action", String, nullable=False),
    Column("opened_at", BigInteger, nullable=False, index=True),
    Column("checked_at", BigInteger, nullable=False),
    Column("closed_at", BigInteger),
    Column("announced", Boolean, nullable=False, index=True),
    Column("runbook", Text, nullable=False, server_default=""),
)
notices = Table(
    "monitoring_notices",
    TABLES,
    Column("alert_id", String, primary_key=True),
    Column("transition", String(16), primary_key=True),
    Column("channel", String, primary_key=True),
    Column("queued_at", BigInteger, nullable=False),
    # The next attempt; null once it is delivered or given up.
    Column("due_at", BigInteger, index=True),
    Column("delivered_at", BigInteger),
    Column("attempts", Text, nullable=False),
)
# Notices of a channel that may wait. More are not sent.
MOST_WAITING: Final = 1_000
# A table of its own: a round of checks writes whole alerts meanwhile.
acknowledgements = Table(
    "monitoring_acknowledgements",
    TABLES,
    Column("alert_id", String, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("principal", String, nullable=False),
    Column("remark", Text, nullable=False),
)


class AlertBook:
    """The repository of alerts, and of the streaks that open and close them.

    Transitions are queued for the channels, in the transaction that keeps them.
    """

    def __init__(self, engine: Engine, channels: Collection[str] = ()) -> None:
        self._engine, self._channels = engine, channels

    def standing(self) -> tuple[dict[str, Streak], dict[str, Alert]]:
        """The streak and the open alert of each rule that has one."""
        with self._engine.connect() as db:
            streaks = {
                row.rule: Streak(row.failing, row.passing)
                for row in db.execute(select(streaks_table))
            }
            opened = [
                _alert(row)
                for row in db.execute(select(alerts).where(alerts.c.closed_at.is_(None)))
            ]
        return streaks, {alert.rule: alert for alert in opened}

    def save(
        self,
        streaks: Mapping[str, Streak],
        changed: Sequence[Alert],
        transitions: Sequence[tuple[Alert, Transition]] = (),
    ) -> None:
        """Keep the result of one round of checks, all of it or nothing.

        Args:
            streaks: The streaks by rule.
            changed: Alerts that opened, went on or closed.
            transitions: Those that people get a notice of.
        """
        rows = [
            asdict(alert)
            | {"severity": alert.severity.value, "evidence": orjson.dumps(alert.evidence).decode()}
            for alert in changed
        ]
        with self._engine.begin() as db:
            upsert(
                db,
                streaks_table,
                [{"rule": rule, **streak._asdict()} for rule, streak in streaks.items()],
                replacing,
            )
            upsert(db, alerts, rows, replacing)
            for channel in self._channels if transitions else ():
                _queue(db, channel, transitions)

    def unannounced(self) -> list[Alert]:
        """Alerts with a state that is not on the topic yet, oldest first."""
        with self._engine.connect() as db:
            return [
                _alert(row)
                for row in db.execute(
                    select(alerts).where(~alerts.c.announced).order_by(alerts.c.opened_at)
                )
            ]

    def mark_announced(self, announced: Sequence[Alert]) -> None:
        """Note that the present state of these alerts is on the topic."""
        ids = [alert.alert_id for alert in announced]
        with self._engine.begin() as db:
            db.execute(update(alerts).where(alerts.c.alert_id.in_(ids)).values(announced=True))

    def page(self, state: str, limit: int, after: tuple[int, str] | None) -> list[Alert]:
        """At most `limit` alerts in `state` (open, closed or all), newest first.

        The page begins after the position `after`: (opened_at, alert_id).
        """
        query = (
            select(alerts)
            .order_by(alerts.c.opened_at.desc(), alerts.c.alert_id.desc())
            .limit(limit)
        )
        if state != "all":
            query = query.where(
                alerts.c.closed_at.is_(None) if state == "open" else alerts.c.closed_at.is_not(None)
            )
        if after is not None:
            query = query.where(tuple_(alerts.c.opened_at, alerts.c.alert_id) < tuple_(*after))
        with self._engine.connect() as db:
            return [_alert(row) for row in db.execute(query)]

    def acknowledge(self, record: AuditRecord, note: str) -> Alert:
        """Keep that an alert is known, in place of an earlier word, with the audit record.

        Args:
            record: The act: its subject is the alert's id.
            note: A note for others.

        Raises:
            LookupError: There is no such alert.
        """
        with self._engine.begin() as db:
            row = db.execute(
                select(alerts).where(alerts.c.alert_id == record.subject)
            ).one_or_none()
            if row is None:
                raise LookupError(f"there is no alert {record.subject}")
            kept = {"alert_id": record.subject, "at": record.at, "principal": record.principal}
            upsert(db, acknowledgements, [kept | {"remark": note}], replacing)
            insert_audit(db, AUDIT, record)
        return _alert(row)

    def acknowledged(self, alert_ids: Collection[str]) -> dict[str, Acknowledgement]:
        """The acknowledgements of these alerts, of those that have one."""
        query = select(acknowledgements).where(acknowledgements.c.alert_id.in_(alert_ids))
        with self._engine.connect() as db:
            return {
                row.alert_id: Acknowledgement(at=row.at, by=row.principal, note=row.remark)
                for row in db.execute(query)
            }

    def asking(self, until: int, limit: int) -> list[Alert]:
        """At most `limit` alerts that ask for a run and opened by `until`, newest first."""
        query = (
            select(alerts)
            .where(alerts.c.action == "retrain", alerts.c.opened_at <= until)
            .order_by(alerts.c.opened_at.desc())
            .limit(limit)
        )
        with self._engine.connect() as db:
            return [_alert(row) for row in db.execute(query)]


class WaitingNotice(NamedTuple):
    """A notice that is not delivered, with the number of its attempts; times in ms."""

    alert: Alert
    transition: Transition
    channel: str
    queued_at: int
    due_at: int
    attempts: int


class NoticeBook:
    """The repository of notices of alerts, and of the attempts to deliver them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def waiting(self) -> list[WaitingNotice]:
        """The notices that are to be delivered, oldest first."""
        n = notices.c
        own = (n.transition, n.channel, n.queued_at, n.due_at, n.attempts)
        query = (
            select(*own, alerts)
            .join(alerts, alerts.c.alert_id == n.alert_id)
            .where(n.due_at.is_not(None))
            .order_by(n.queued_at, n.alert_id, n.channel)
        )
        with self._engine.connect() as db:
            rows = db.execute(query).all()
        return [
            WaitingNotice(
                alert=_alert(row),
                transition=row.transition,
                channel=row.channel,
                queued_at=row.queued_at,
                due_at=row.due_at,
                attempts=len(orjson.loads(row.attempts)),
            )
            for row in rows
        ]

    def note(
        self,
        waiting: WaitingNotice,
        attempt: Attempt,
        *,
        due_at: int | None = None,
        delivered: bool = False,
    ) -> None:
        """Keep an attempt to deliver a notice.

        Args:
            waiting: The notice.
            attempt: Time and outcome.
            due_at: Time (ms) of the next attempt; None for none.
            delivered: Whether the receiver took it.
        """
        n = notices.c
        its = and_(
            n.alert_id == waiting.alert.alert_id,
            n.transition == waiting.transition,
            n.channel == waiting.channel,
        )
        with self._engine.begin() as db:
            kept = orjson.loads(db.execute(select(n.attempts).where(its)).scalar_one())
            db.execute(
                update(notices)
                .where(its)
                .values(
                    attempts=orjson.dumps([*kept, attempt.model_dump()]).decode(),
                    due_at=due_at,
                    delivered_at=attempt.at if delivered else None,
                )
            )

    def deliveries(self, alert_ids: Collection[str]) -> dict[str, list[Delivery]]:
        """The deliveries of these alerts' notices, oldest first, of those that have some."""
        n = notices.c
        query = select(notices).where(n.alert_id.in_(alert_ids)).order_by(n.queued_at, n.channel)
        found: dict[str, list[Delivery]] = {}
        with self._engine.connect() as db:
            for row in db.execute(query):
                values = dict(row._mapping) | {"attempts": orjson.loads(row.attempts)}
                found.setdefault(row.alert_id, []).append(Delivery(**values))
        return found


def _queue(db: Connection, channel: str, transitions: Iterable[tuple[Alert, Transition]]) -> None:
    """Queue notices for a channel. Where too many wait, they are given up at once."""
    n = notices.c
    wait = select(func.count()).where(n.channel == channel, n.due_at.is_not(None))
    free = MOST_WAITING - (db.scalar(wait) or 0)
    rows = []
    for number, (alert, transition) in enumerate(transitions):
        outcome = f"given up: {MOST_WAITING:,} notices wait for this channel"
        full = [Attempt(at=alert.checked_at, outcome=outcome).model_dump()]
        rows.append(
            {
                "alert_id": alert.alert_id,
                "transition": transition,
                "channel": channel,
                "queued_at": alert.checked_at,
                "due_at": alert.checked_at if number < free else None,
                "attempts": orjson.dumps([] if number < free else full).decode(),
            }
        )
    insert_new(db, notices, rows)


def _alert(row: Row[Any]) -> Alert:
    values = {column.name: row._mapping[column] for column in alerts.c}
    return Alert(
        **values
        | {"evidence": orjson.loads(values["evidence"]), "severity": Severity(values["severity"])}
    )
