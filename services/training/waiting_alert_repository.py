"""Alerts that ask for a run and wait until it may start, and alerts that hold promotions, in SQL: a
restart must keep them.

The order in which this service took in a run and an alert decides which came first. Their times
are from two machines with clocks that may differ.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Engine,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    update,
)

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
    # The number of the newest run when the alert came, without other attempts at killed ones.
    Column("after_run", BigInteger),
    # Whether it has had its run, or has closed. It stays, to be known when it is read again.
    Column("met", Boolean),
    # Whether it holds promotions for as long as it is not met, and asks for no run.
    Column("holds", Boolean),
    # The beginning of what it found (ms), until it closes; null where the alert does not say.
    Column("onset", BigInteger),
)


@dataclass(frozen=True)
class WaitingAlert:
    """An alert that waits for a run.

    Attributes:
        rule: Name of the rule that the alert is of.
        summary: The alert in words.
        request_id: Request id of the alert's message.
        opened_at: When the alert opened (ms), by monitoring's clock.
        after_run: Number of the newest run when the alert came; 0 before any.
        onset: The beginning of the shift that it found (ms); None where it says none.
    """

    rule: str
    summary: str
    request_id: str
    opened_at: int
    after_run: int = 0
    onset: int | None = None


class WaitingAlerts:
    """The newest alert of each rule. One that holds promotions does so until it has closed.

    Each method is one transaction; safe to use from several threads.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, alert: AlertEvent, request_id: str, after_run: int) -> None:
        """Keep an alert, in place of an earlier one of its rule; nothing if it is the same.

        `after_run` is the number of the newest run, 0 before any.
        """
        same = (_waiting.c.rule == alert.rule, _waiting.c.opened_at == alert.timestamp)
        with self._engine.begin() as connection:
            if connection.scalar(select(func.count()).select_from(_waiting).where(*same)):
                return
            connection.execute(delete(_waiting).where(_waiting.c.rule == alert.rule))
            row = {
                "rule": alert.rule,
                "summary": alert.summary,
                "request_id": request_id,
                "opened_at": alert.timestamp,
                "after_run": after_run,
                "met": False,
                "holds": alert.hold,
                "onset": alert.onset,
            }
            connection.execute(insert(_waiting).values(row))

    def close(self, rule: str) -> None:
        """Let the alert of a rule that has closed wait, or hold promotions, no longer."""
        with self._engine.begin() as connection:
            connection.execute(
                update(_waiting).where(_waiting.c.rule == rule).values(met=True, onset=None)
            )

    def met_by(self, run: int) -> None:
        """Let the alerts wait no longer that came before the run of this number was queued."""
        with self._engine.begin() as connection:
            connection.execute(
                update(_waiting)
                .where(
                    func.coalesce(_waiting.c.after_run, 0) < run,
                    _waiting.c.met.is_not(True),
                    _waiting.c.holds.is_not(True),
                )
                .values(met=True)
            )

    def all(self) -> list[WaitingAlert]:
        """All alerts that wait for a run, oldest first."""
        return self._open(_waiting.c.holds.is_not(True))

    def holding(self) -> list[WaitingAlert]:
        """The open alerts that hold promotions, oldest first."""
        return self._open(_waiting.c.holds.is_(True))

    def shift(self) -> WaitingAlert | None:
        """The open alert with the newest onset that requested a run, whether it had one or not."""
        shifts = self._those(_waiting.c.onset.is_not(None), _waiting.c.holds.is_not(True))
        return max(shifts, key=lambda alert: alert.onset or 0, default=None)

    def onset(self) -> int | None:
        """The onset of that alert (ms); None without one."""
        shift = self.shift()
        return shift.onset if shift else None

    def _open(self, kind: ColumnElement[bool]) -> list[WaitingAlert]:
        return self._those(_waiting.c.met.is_not(True), kind)

    def _those(self, *conditions: ColumnElement[bool]) -> list[WaitingAlert]:
        with self._engine.connect() as connection:
            rows = connection.execute(
                select(_waiting).where(*conditions).order_by(_waiting.c.opened_at, _waiting.c.rule)
            ).all()
        return [
            WaitingAlert(
                row.rule, row.summary, row.request_id, row.opened_at, row.after_run or 0, row.onset
            )
            for row in rows
        ]
