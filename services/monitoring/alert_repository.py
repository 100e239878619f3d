"""The SQL tables of alerts, and every query on them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import orjson
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Engine,
    Integer,
    Row,
    String,
    Table,
    Text,
    select,
    tuple_,
    update,
)

from services.monitoring.alert_rules import Acknowledgement, Alert, Streak
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
)
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
    """The repository of alerts, and of the streaks that open and close them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

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

    def save(self, streaks: Mapping[str, Streak], changed: Sequence[Alert]) -> None:
        """Keep the result of one round of checks, all of it or nothing."""
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


def _alert(row: Row[Any]) -> Alert:
    values = dict(row._mapping)
    return Alert(
        **values
        | {"evidence": orjson.loads(values["evidence"]), "severity": Severity(values["severity"])}
    )
