"""Alerts that ask for a run and wait until it may start, in SQL: a restart must keep them."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import BigInteger, Column, Engine, String, Table, Text, delete, insert, select

from slipstream.contracts.events import AlertEvent
from slipstream.stores.metadata import new_metadata

TABLES: Final = new_metadata()
_waiting: Final = Table(
    "training_waiting_alert",
    TABLES,
    Column("rule", String(128), primary_key=True),
    Column("summary", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("opened_at", BigInteger, nullable=False),
)


@dataclass(frozen=True)
class WaitingAlert:
    """An alert that waits for a run.

    Attributes:
        rule: Name of the rule that the alert is of.
        summary: The alert in words.
        request_id: Request id of the alert's message.
        opened_at: When the alert opened (ms).
    """

    rule: str
    summary: str
    request_id: str
    opened_at: int


class WaitingAlerts:
    """The newest alert of each rule.

    Each method is one transaction; safe to use from several threads.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, alert: AlertEvent, request_id: str) -> None:
        """Let an alert wait, in place of an earlier one of its rule."""
        with self._engine.begin() as connection:
            connection.execute(delete(_waiting).where(_waiting.c.rule == alert.rule))
            row = {
                "rule": alert.rule,
                "summary": alert.summary,
                "request_id": request_id,
                "opened_at": alert.timestamp,
            }
            connection.execute(insert(_waiting).values(row))

    def close(self, rule: str) -> None:
        """Drop the alert of a rule that has closed."""
        with self._engine.begin() as connection:
            connection.execute(delete(_waiting).where(_waiting.c.rule == rule))

    def met_by(self, created_at: int) -> None:
        """Drop the alerts that had opened by the time (ms) at which a run was queued."""
        with self._engine.begin() as connection:
            connection.execute(delete(_waiting).where(_waiting.c.opened_at <= created_at))

    def all(self) -> list[WaitingAlert]:
        """All alerts that wait, oldest first."""
        with self._engine.connect() as connection:
            rows = connection.execute(
                select(_waiting).order_by(_waiting.c.opened_at, _waiting.c.rule)
            ).all()
        return [WaitingAlert(row.rule, row.summary, row.request_id, row.opened_at) for row in rows]
