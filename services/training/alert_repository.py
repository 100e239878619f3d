"""Alerts that ask for a run and wait until one may start, in SQL: a restart must not forget them."""

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
    """An alert that waits. `request_id` is that of the message which told it."""

    rule: str
    summary: str
    request_id: str
    opened_at: int


class WaitingAlerts:
    """One alert a rule, the newest. Each method is one transaction; safe to use from several
    threads.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, alert: AlertEvent, request_id: str) -> None:
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
        """The rule finds nothing any more: its alert need not wait."""
        with self._engine.begin() as connection:
            connection.execute(delete(_waiting).where(_waiting.c.rule == rule))

    def met_by(self, created_at: int) -> None:
        """A run was asked for at this time (ms): alerts that had opened by then have what they ask
        for.
        """
        with self._engine.begin() as connection:
            connection.execute(delete(_waiting).where(_waiting.c.opened_at <= created_at))

    def all(self) -> list[WaitingAlert]:
        """Oldest first."""
        with self._engine.connect() as connection:
            rows = connection.execute(
                select(_waiting).order_by(_waiting.c.opened_at, _waiting.c.rule)
            ).all()
        return [WaitingAlert(row.rule, row.summary, row.request_id, row.opened_at) for row in rows]
