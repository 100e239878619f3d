"""The SQL tables of alerts, and every query on them."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, NamedTuple

import orjson
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Engine,
    Index,
    Integer,
    Row,
    String,
    Table,
    Text,
    func,
    select,
    tuple_,
    update,
)

from services.monitoring.alert_rules import (
    Acknowledgement,
    Alert,
    Streak,
    Transition,
)
from services.monitoring.slate_tables import AUDIT
from slipstream.contracts.events import Severity
from slipstream.contracts.rest import AuditRecord
from slipstream.stores.metadata import insert_audit, new_metadata, replacing, upsert

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
    # The notices that are still to be sent, oldest first: `<channel transition time>` of each.
    Column("unsent", Text, nullable=False, server_default=""),
)
# A look for notices reads none of the alerts that have none.
Index(
    "monitoring_alerts_unsent",
    alerts.c.opened_at,
    sqlite_where=alerts.c.unsent != "",
    postgresql_where=alerts.c.unsent != "",
)
# Alerts that are read for their notices at once.
MOST_ALERTS: Final = 1_000
_NOTICE: Final = re.compile(r"<(\S+) (\S+) (\d+)>")
# A table of its own: a round of checks writes whole alerts meanwhile.
acknowledgements = Table(
    "monitoring_acknowledgements",
    TABLES,
    Column("alert_id", String, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("principal", String, nullable=False),
    Column("remark", Text, nullable=False),
)


class UnsentNotice(NamedTuple):
    """A notice of an alert's transition at a time (ms), which a channel has not taken yet."""

    alert: Alert
    channel: str
    transition: Transition
    at: int

    @property
    def mark(self) -> str:
        """How the alert's row names it."""
        return f"<{self.channel} {self.transition} {self.at}>"


class AlertBook:
    """The repository of alerts, and of the streaks that open and close them.

    An alert's row says which notices of it are unsent, since the transaction that keeps their
    transition.
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
            changed: Alerts that opened, went on or closed.
            transitions: Those that people get a notice of.
        """
        unsent: dict[str, str] = {}
        for alert, transition in transitions:
            marks = (UnsentNotice(alert, it, transition, alert.checked_at) for it in self._channels)
            unsent[alert.alert_id] = "".join(notice.mark for notice in marks)
        rows = [
            asdict(alert)
            | {
                "severity": alert.severity.value,
                "evidence": orjson.dumps(alert.evidence).decode(),
                "unsent": unsent.get(alert.alert_id, ""),
            }
            for alert in changed
        ]
        with self._engine.begin() as db:
            upsert(
                db,
                streaks_table,
                [{"rule": rule, **streak._asdict()} for rule, streak in streaks.items()],
                replacing,
            )
            upsert(db, alerts, rows, _with_unsent)

    def unsent(self) -> list[UnsentNotice]:
        """The notices that are to be sent: the oldest alert's first, and each alert's in order.

        Those of `MOST_ALERTS` at most; what can't be sent leaves them within a day.
        """
        query = select(alerts).where(alerts.c.unsent != "").order_by(alerts.c.opened_at)
        query = query.limit(MOST_ALERTS)
        with self._engine.connect() as db:
            rows = db.execute(query).all()
        return [
            UnsentNotice(_alert(row), channel, transition, int(at))
            for row in rows
            for channel, transition, at in _NOTICE.findall(row.unsent)
        ]

    def mark_sent(self, notice: UnsentNotice) -> None:
        """Note that a notice was taken, or given up."""
        left = func.replace(alerts.c.unsent, notice.mark, "")
        of_alert = alerts.c.alert_id == notice.alert.alert_id
        with self._engine.begin() as db:
            db.execute(update(alerts).where(of_alert).values(unsent=left))

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


def _with_unsent(stored: Column[Any], given: ColumnElement[Any]) -> ColumnElement[Any]:
    """Merge by replacing, except that notices come after those that are unsent."""
    return stored + given if stored.name == "unsent" else given


def _alert(row: Row[Any]) -> Alert:
    values = {column.name: row._mapping[column] for column in alerts.c if column.name != "unsent"}
    return Alert(
        **values
        | {"evidence": orjson.loads(values["evidence"]), "severity": Severity(values["severity"])}
    )
