"""Ingestion's app in front of a producer that encodes records like the real one, and takes all."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import chain
from typing import Any

import httpx
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr

from services.ingestion.api import Parts
from services.ingestion.app import create_app
from services.ingestion.erasures import ErasureCuts, ErasureReceipts
from services.ingestion.intake import Intake
from services.ingestion.publisher import OutcomePublisher
from services.ingestion.settings import IngestionSection, IngestionSettings, PrivacySettings
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.broker.producer import Failure, OutgoingRecord
from slipstream.broker.records import decode, encode
from slipstream.chassis.client import Peer
from slipstream.contracts.events import (
    CatalogRecord,
    DeadLetter,
    Interaction,
    NewInteraction,
    Record,
)
from slipstream.contracts.positions import Cut

KEY = "s3cret"
AUTH = (KEY, "")


class Acknowledging:
    """A producer that keeps what is published. When `away`, it acknowledges nothing.

    `monitoring` answers in that service's place.
    """

    def __init__(self) -> None:
        self.published: list[OutgoingRecord] = []
        self.tombstones: list[str] = []
        self.away = False
        self.monitoring: Callable[[httpx.Request], httpx.Response] = lambda _: httpx.Response(503)

    async def publish_each(self, lists: Sequence[Sequence[OutgoingRecord]]) -> list[Failure]:
        if self.away:
            return [BrokerUnavailableError("gone")] * len(lists)
        for record in chain.from_iterable(lists):
            if record.record is None:
                self.tombstones.append(record.key)
                continue
            assert isinstance(record.record, Record | NewInteraction)
            decoded = decode(record.topic, encode(record.record))
            assert isinstance(record.record, NewInteraction) or decoded == record.record
            self.published.append(record._replace(record=decoded))
        return [None] * len(lists)

    def ends(self) -> Cut:
        if self.away:
            raise BrokerUnavailableError("gone")
        return {"interactions.v1": {"t:0": len(self.interactions)}}

    @property
    def interactions(self) -> list[Interaction]:
        return [o.record for o in self.published if isinstance(o.record, Interaction)]

    @property
    def entries(self) -> list[CatalogRecord]:
        return [o.record for o in self.published if isinstance(o.record, CatalogRecord)]

    @property
    def letters(self) -> list[DeadLetter]:
        return [o.record for o in self.published if isinstance(o.record, DeadLetter)]


def settings_with(privacy: PrivacySettings | None = None, **section: Any) -> IngestionSettings:
    """Settings for one write key; `section` are settings of ingestion."""
    return IngestionSettings(
        ingestion=IngestionSection(write_keys=SecretStr(f"shop:{KEY}"), **section),
        privacy=privacy or PrivacySettings(),
    )


def make_app(
    producer: Acknowledging, privacy: PrivacySettings | None = None, **section: Any
) -> FastAPI:
    """The app as it is served, on `producer` instead of a broker."""
    settings = settings_with(privacy, **section)
    app = create_app(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if not hasattr(app.state, "parts"):  # a second client of the same app comes here, too
            publisher = OutcomePublisher(producer, app.state.metrics.registry)
            cuts = ErasureCuts(producer.ends)
            verifier, rules = app.state.verifier, app.state.rules
            intake = Intake(settings.ingestion, verifier, publisher, rules, cuts)
            monitoring = httpx.MockTransport(lambda request: producer.monitoring(request))
            receipts = ErasureReceipts(
                Peer("monitoring", "http://m", retries=0, transport=monitoring)
            )
            app.state.parts = Parts(intake, receipts)
        yield

    app.router.lifespan_context = lifespan
    return app


@contextmanager
def collecting(
    producer: Acknowledging, privacy: PrivacySettings | None = None, **section: Any
) -> Iterator[TestClient]:
    """A client of such an app."""
    app = make_app(producer, privacy, **section)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client
