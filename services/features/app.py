"""Wiring of the features service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from services.features import api
from services.features.feast import Planner
from services.features.materializer import Materializer
from services.features.settings import FeaturesSettings
from services.features.upkeep import keep_lake
from slipstream.broker.producer import open_producer
from slipstream.chassis.app import create_service
from slipstream.chassis.worker import Worker
from slipstream.features.views import declare
from slipstream.stores.lake import Lake
from slipstream.stores.online import OnlineReader, OnlineStore

#: States are made and dropped by the thousand, without cycles: cycles are looked for only after so many.
COLLECT_AFTER = 1_000_000

DESCRIPTION = "Folds the stream into features: online in Redis, history in a Delta lake; answers reads in Feast's shape."


def create_app(settings: FeaturesSettings) -> FastAPI:
    """The features service's app. Starting it fails with `BrokerUnavailableError` when no broker answers in 30 s."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        producer = await open_producer(settings.kafka, settings.namespace, linger_ms=20)
        store = OnlineStore(settings.redis, settings.namespace, settings.retention())
        reader = OnlineReader(settings.redis, settings.namespace)
        lake = Lake(settings.lake, settings.namespace)
        materializer = Materializer(settings, store, lake, producer, app.state.metrics)
        app.state.reader, app.state.lake, app.state.materializer = reader, lake, materializer
        app.state.producer = producer
        app.state.registry = declare(settings.attributes())
        app.state.planner = Planner(app.state.registry)
        restarts = app.state.metrics.worker_restarts
        workers = [
            Worker("materializer", materializer.run, restarts).start(),
            Worker("lake-upkeep", lambda stop: keep_lake(lake, settings.features, stop), restarts).start(),
        ]
        checks = {
            "redis": reader.ping,
            "redis-writes": materializer.check_redis,
            "lake": materializer.check_lake,
            "stream": materializer.watch.check,
        }
        for name, check in {**checks, "kafka": producer.check}.items():
            app.state.health.add(name, check)
        for worker in workers:
            app.state.health.add(worker.name, worker.check)
        yield
        for worker in workers:
            await asyncio.to_thread(worker.stop)
        materializer.close()
        await reader.aclose()
        store.close()
        await asyncio.to_thread(producer.close)

    app = create_service("features", settings, description=DESCRIPTION, lifespan=lifespan, routers=[api.feast_router, api.router])
    app.include_router(api.health)
    app.state.collect_after = COLLECT_AFTER
    return app
