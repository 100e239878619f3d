"""Wiring of ingestion."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final

from fastapi import FastAPI

from services.ingestion.api import CORS, Parts, events, pages, router
from services.ingestion.documentation import COMPONENTS
from services.ingestion.erasures import ErasureCuts, ErasureReceipts
from services.ingestion.intake import Intake
from services.ingestion.intake_rules import IntakeRules, follow
from services.ingestion.outcomes import Admission
from services.ingestion.publisher import OutcomePublisher
from services.ingestion.settings import IngestionSettings
from slipstream.broker.follower import AccessKeyFeed
from slipstream.broker.log_ends import log_ends
from slipstream.broker.producer import open_producer
from slipstream.chassis.access.keys import KeyRing
from slipstream.chassis.access.page_tokens import PageTokens
from slipstream.chassis.access.tokens import service_credential
from slipstream.chassis.app import create_service, let_pages_read
from slipstream.chassis.client import Peer
from slipstream.contracts.topics import HISTORY, INTERACTIONS
from slipstream.stores.admission_store import AdmissionStore

DESCRIPTION = (
    "Takes events and the catalogue, gives a verdict on each, "
    "and answers when the broker has acknowledged."
)

# Patience for a receipt, for which monitoring asks features and training.
_RECEIPT_S: Final = 25.0


def create_app(settings: IngestionSettings) -> FastAPI:
    """The app of ingestion.

    It opens once a broker answers. Redis may come later.
    """
    rules = IntakeRules.of(settings)
    app = create_service(
        "ingestion",
        settings,
        description=DESCRIPTION,
        lifespan=_lifespan,
        routers=[events, pages, router],
        guarded=False,
        keys=settings.ingestion.keys(),
    )
    let_pages_read(app, settings.ingestion.cors_origins, **CORS)
    _document_components(app)
    rules.page_tokens = PageTokens(app.state.keys)
    app.state.rules = rules
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: IngestionSettings = app.state.settings
    keys: KeyRing = app.state.keys
    rules: IntakeRules = app.state.rules
    section, registry, health = settings.ingestion, app.state.metrics.registry, app.state.health
    async with AsyncExitStack() as stack:
        producer = await open_producer(
            settings.kafka, settings.namespace, linger_ms=section.linger_ms
        )
        stack.push_async_callback(asyncio.to_thread, producer.close)
        health.add("kafka", producer.check)
        store = AdmissionStore(
            settings.redis,
            settings.namespace,
            window_ms=section.window_ms(),
            log_id=partial(producer.topic_id, INTERACTIONS),
        )
        stack.push_async_callback(store.aclose)
        await store.refuse_server()
        health.add("redis", store.ping, required=False)
        admission = Admission(store, section.server_rates(), section.browser_rates())
        publisher = OutcomePublisher(producer, registry, admission)
        cuts = ErasureCuts(partial(log_ends, settings.kafka, settings.namespace, HISTORY))
        intake = Intake(section, app.state.verifier, publisher, rules, cuts)
        peers, token = settings.peers, service_credential(settings, "ingestion")
        monitoring = Peer(
            "monitoring", peers.monitoring_url, timeout_s=_RECEIPT_S, retries=0, token=token
        )
        stack.callback(monitoring.close)
        app.state.parts = Parts(intake, ErasureReceipts(monitoring))
        stack.callback(asyncio.create_task(follow(rules.files)).cancel)
        feed = AccessKeyFeed(settings, keys, app.state.metrics, producer)
        health.add("access-keys", feed.watch.check, required=False)
        stack.push_async_callback(app.state.workers.stop)
        app.state.workers.start("access-keys", feed.run, checked=False)
        yield


def _document_components(app: FastAPI) -> None:
    """Name the write key and the body of errors in the OpenAPI document.

    FastAPI's dependencies and models would do that, too, but would cost time in each request, and
    give errors another content type.
    """
    original = app.openapi

    def openapi() -> dict[str, Any]:
        document = original()
        for kind, parts in COMPONENTS.items():
            document.setdefault("components", {}).setdefault(kind, {}).update(parts)
        return document

    app.openapi = openapi  # type: ignore[method-assign]
