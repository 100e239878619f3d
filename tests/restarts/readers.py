"""What each service reads from the broker, and how one can see that it has read it."""

import time
from collections.abc import Callable
from typing import NamedTuple

import httpx
from sqlalchemy import Engine, exists, select

from services.monitoring.slate_tables import slates
from services.training.migrations import MIGRATIONS
from services.training.repository import Repository
from services.training.waiting_alert_repository import WaitingAlerts
from slipstream.broker.producer import OutgoingRecord
from slipstream.contracts.events import AlertEvent, CatalogRecord, Interaction, Severity, Slate
from slipstream.contracts.topics import ALERTS, CATALOG, INTERACTIONS, RECOMMENDATIONS
from slipstream.stores.migrations import migrate


class Reader(NamedTuple):
    """A service that reads.

    `record` makes a record of an unused name; `has_read` says whether it had effect.
    """

    service: str
    record: Callable[[str], OutgoingRecord]
    has_read: Callable[[str], bool]


def features(url: str) -> Reader:
    """The visitor of a new event has features."""

    def record(name: str) -> OutgoingRecord:
        event = Interaction(
            event_id=name,
            event_type="view",
            user_id=name,
            item_id="i",
            timestamp=_now(),
            received_at=_now(),
        )
        return OutgoingRecord(INTERACTIONS, name, event)

    return Reader("features", record, lambda name: _found(f"{url}/v1/features/visitor/{name}"))


def serving(url: str) -> Reader:
    """A new item of the catalogue is known. Its reader has no group, and starts over each time."""

    def record(name: str) -> OutgoingRecord:
        return OutgoingRecord(
            CATALOG, f"item:{name}", CatalogRecord(entity="item", entity_id=name, timestamp=_now())
        )

    return Reader("serving", record, lambda name: _found(f"{url}/v1/similar/{name}"))


def monitoring(engine: Engine) -> Reader:
    """A new slate is in the log."""

    def record(name: str) -> OutgoingRecord:
        slate = Slate(
            recommendation_id=name, user_id=name, timestamp=_now(), items=[], answered_by="none"
        )
        return OutgoingRecord(RECOMMENDATIONS, name, slate)

    def has_read(name: str) -> bool:
        with engine.connect() as connection:
            return bool(
                connection.scalar(select(exists().where(slates.c.recommendation_id == name)))
            )

    return Reader("monitoring", record, has_read)


def training(engine: Engine) -> Reader:
    """A new alert waits for its run. A run has ended just now, so that no alert starts one within
    the cooldown.
    """
    migrate(engine, MIGRATIONS)
    alerts, runs = WaitingAlerts(engine), Repository(engine)
    runs.add("before", "request", "the run before", "fast")
    runs.start("before")
    runs.finish("before", "failed", error="made for the test")

    def record(name: str) -> OutgoingRecord:
        alert = AlertEvent(
            alert_id=name,
            rule=name,
            severity=Severity.WARNING,
            state="opened",
            summary="",
            action="retrain",
            timestamp=_now(),
        )
        return OutgoingRecord(ALERTS, name, alert)

    return Reader(
        "training", record, lambda name: any(alert.rule == name for alert in alerts.all())
    )


def _found(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _now() -> int:
    return time.time_ns() // 1_000_000
