"""Ingestion's app."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from services.ingestion import tracker
from services.ingestion.api import CORS, events, router
from services.ingestion.documentation import SECURITY_SCHEMES
from services.ingestion.intake import Intake
from services.ingestion.publisher import Publisher
from services.ingestion.rules import Rules
from services.ingestion.settings import IngestionSettings, listed
from services.ingestion.watched_files import follow
from services.ingestion.write_keys import WriteKeys
from slipstream.broker.producer import open_producer
from slipstream.chassis.app import create_service
from slipstream.chassis.logging import get_logger
from slipstream.contracts.topics import CATALOG, DEAD_LETTERS, INTERACTIONS

log = get_logger(__name__)

TOPICS = (INTERACTIONS, CATALOG, DEAD_LETTERS)


def create_app(settings: IngestionSettings) -> FastAPI:
    """Ingestion, for the write keys in its settings."""
    keys = WriteKeys(settings.ingestion.write_keys.get_secret_value())
    rules = Rules.of(settings.ingestion)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        producer = await open_producer(settings.kafka, settings.namespace, TOPICS, linger_ms=settings.ingestion.linger_ms)
        app.state.intake = Intake(settings.ingestion, keys, Publisher(producer, app.state.metrics.registry), rules)
        app.state.health.add("kafka", producer.check)
        following = asyncio.create_task(follow(rules.files))
        yield
        following.cancel()
        await asyncio.to_thread(producer.close)

    app = create_service(
        "ingestion",
        settings,
        description="Takes events and the catalogue, gives a verdict on each, and answers when the broker has acknowledged.",
        lifespan=lifespan,
        routers=[router],
        token_protected=False,
    )
    app.router.routes[:0] = events.routes
    app.add_api_route("/v1/slipstream.js", tracker.serve, methods=["GET", "HEAD"], include_in_schema=False)
    if origins := listed(settings.ingestion.cors_origins):
        app.add_middleware(CORSMiddleware, allow_origins=origins, **CORS)
    _document_security(app)
    return app


def _document_security(app: FastAPI) -> None:
    """Name the write key in the OpenAPI document; a dependency would say it too, but cost time in each request."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        document = original()
        document.setdefault("components", {})["securitySchemes"] = SECURITY_SCHEMES
        return document

    app.openapi = openapi  # type: ignore[method-assign]
