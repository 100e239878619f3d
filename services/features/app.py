"""Wiring of the features service, with the upkeep of its stores.

Small files of the lake's tables are merged. Files that no kept version needs are deleted, and so
are those that hold erased rows. Redis is asked to rewrite its files after erasures, its memory is
exported, and a server that can't be taken is refused.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final

from fastapi import FastAPI

from services.features.history.people import ErasedPerson
from services.features.history.receipts import Receipts, newest_erasure
from services.features.http import catalogue as catalogue_api
from services.features.http import people as people_api
from services.features.http import reads
from services.features.http import slates as slates_api
from services.features.http import views as views_api
from services.features.metrics import RedisMetrics
from services.features.reads.feast import Planner
from services.features.settings import FeaturesSection, FeaturesSettings
from services.features.stream.erasures import LakeErasures
from services.features.stream.materializer import GROUP, TOPICS, Materializer
from slipstream.broker.follower import AccessKeyFeed
from slipstream.broker.log_ends import committed_offsets, log_beginnings, log_ends
from slipstream.broker.producer import OutgoingRecord, Producer, open_producer
from slipstream.chassis.app import create_service
from slipstream.chassis.logging import get_logger
from slipstream.contracts.events import ErasedVisitors
from slipstream.contracts.late_records import MARKED_MS
from slipstream.contracts.times import DAY_MS, now_ms
from slipstream.contracts.topics import ERASED_VISITORS, PERSONAL
from slipstream.features.views import declare
from slipstream.stores.lake import (
    ERASURES,
    RECOMMENDATIONS,
    SCHEMAS,
    Lake,
    LakeLease,
    LakeUnavailableError,
)
from slipstream.stores.online import OnlineReader, OnlineStore, StoreUnavailableError
from slipstream.stores.redis_server import RedisFiles

log = get_logger(__name__)


def keep_lake(lake: Lake, settings: FeaturesSection, stop: threading.Event) -> None:
    """Look after all tables every `lake_compact_every_s`, until `stop` is set.

    Several processes may do so at once. Raises `RefusedSettingsError` at once where another version
    of this program made a table.
    """
    lake.refuse_other_version()
    vacuum_at = 0.0
    while not stop.wait(settings.lake_compact_every_s):
        try:
            for table in SCHEMAS:
                merged = lake.compact(table, settings.lake_small_files)
                if merged:
                    log.info("merged small files", table=table, fewer=merged)
            if time.monotonic() >= vacuum_at:
                vacuum_at = time.monotonic() + settings.lake_vacuum_every_hours * 3600
                since_ms = now_ms() - int(settings.lake_circumstances_days * DAY_MS)
                if emptied := lake.empty(RECOMMENDATIONS, "circumstances", since_ms):
                    log.info("emptied the circumstances of old slates", days=emptied)
                lake.forget_visitors(now_ms() - MARKED_MS)
                for table in SCHEMAS:
                    kept_hours = int(settings.lake_retention_days * 24)
                    deleted = lake.vacuum(table, kept_hours, settings.lake_erasure_hours)
                    if deleted:
                        log.info("deleted files of old versions", table=table, files=deleted)
        except LakeUnavailableError as error:
            log.warning("upkeep of the lake failed; it is tried again", reason=str(error))


def keep_redis_files(files: RedisFiles, lake: Lake, every_s: float, stop: threading.Event) -> None:
    """Have Redis rewrite its files after erasures, until `stop` is set.

    Args:
        lake: The lake; its receipts hold the time of the last erasure.
    """
    seen: int | None = None
    newest = 0
    while not stop.wait(every_s):
        try:
            version = lake.version(ERASURES)
            if version != seen:
                newest, seen = newest_erasure(lake), version
            if newest:
                files.rewrite(newest, now_ms())
        except (LakeUnavailableError, StoreUnavailableError) as error:
            log.warning("files of Redis wait to be rewritten", reason=str(error))


_LOOK_EVERY_S: Final = 10.0


def watch_redis(store: OnlineStore, measured: RedisMetrics, stop: threading.Event) -> None:
    """Look at once, then every ten seconds until `stop` is set.

    Raises `RefusedSettingsError` when Redis would evict keys, or is a node of a cluster: also when
    that was set meanwhile, or when another server has taken over. While Redis is unavailable the
    metrics keep their values.
    """
    while True:
        try:
            memory = store.memory()
            measured.memory.set(memory.used)
            measured.memory_limit.set(memory.limit or 0)
        except StoreUnavailableError as error:
            log.debug("the memory of Redis can't be looked up", reason=str(error))
        if stop.wait(_LOOK_EVERY_S):
            return


# Visitors in one record: with ids of 256 bytes it is well below a broker's limit.
_VISITORS: Final = 1_000
# Objects made before the garbage collector looks for cycles. The service makes and drops states by
# the thousand, and none is part of a cycle.
COLLECT_AFTER = 1_000_000

DESCRIPTION = (
    "Folds the stream into features: online in Redis, history in a Delta lake; "
    "answers reads in Feast's shape."
)


def create_app(settings: FeaturesSettings) -> FastAPI:
    """The app of the features service.

    It opens once a broker answers. Redis and the lake may come later.
    """
    # The catalogue's ids may have slashes, so its routes come behind those of people.
    routers = [
        reads.feast_router,
        reads.router,
        views_api.router,
        people_api.router,
        slates_api.router,
        catalogue_api.router,
        reads.health,
    ]
    app = create_service(
        "features", settings, description=DESCRIPTION, lifespan=_lifespan, routers=routers
    )
    app.state.collect_after = COLLECT_AFTER
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: FeaturesSettings = app.state.settings
    async with AsyncExitStack() as stack:
        producer = await open_producer(settings.kafka, settings.namespace, linger_ms=20)
        stack.push_async_callback(asyncio.to_thread, producer.close)
        store = OnlineStore(settings.redis, settings.namespace, settings.retention())
        stack.callback(store.close)
        reader = OnlineReader(settings.redis, settings.namespace)
        stack.push_async_callback(reader.aclose)
        lake = Lake(settings.lake, settings.namespace)
        lease = LakeLease(settings.redis, settings.namespace)
        stack.callback(lease.close)
        redis_files = RedisFiles(settings.redis, settings.namespace)
        stack.callback(redis_files.close)
        beginnings = partial(log_beginnings, settings.kafka, settings.namespace, PERSONAL)
        app.state.receipts = Receipts(lake, beginnings, redis_files.written_at)
        materializer = Materializer(settings, store, lake, producer, app.state.metrics, lease)
        stack.callback(materializer.close)
        registry = declare(settings.attributes())
        app.state.parts = reads.Parts(
            settings=settings,
            reader=reader,
            lake=lake,
            materializer=materializer,
            registry=registry,
            planner=Planner(registry),
        )
        checks = {
            "redis": reader.ping,
            "redis-writes": materializer.check_redis,
            "lake": materializer.check_lake,
            "stream": materializer.watch.check,
        }
        for name, check in {**checks, "kafka": producer.check}.items():
            app.state.health.add(name, check)
        keys = AccessKeyFeed(settings, app.state.keys, app.state.metrics, producer)
        app.state.health.add("access-keys", keys.watch.check, required=False)
        stack.push_async_callback(app.state.workers.stop)
        app.state.workers.start("access-keys", keys.run, checked=False)
        app.state.workers.start("materializer", materializer.run)
        measured = RedisMetrics(app.state.metrics.registry)
        app.state.workers.start("redis-memory", lambda stop: watch_redis(store, measured, stop))
        app.state.workers.start(
            "lake-upkeep", lambda stop: keep_lake(lake, settings.features, stop)
        )
        app.state.workers.start(
            "erasures", partial(_erase, settings, lake, lease, partial(tell, producer))
        )
        every_s = settings.features.erase_every_s
        app.state.workers.start(
            "redis-files", lambda stop: keep_redis_files(redis_files, lake, every_s, stop)
        )
        yield


def _erase(
    settings: FeaturesSettings,
    lake: Lake,
    lease: LakeLease,
    told: Callable[[Sequence[ErasedPerson]], None],
    stop: threading.Event,
) -> None:
    """Erase from the lake until `stop` is set; `told` tells other services."""
    store = OnlineStore(settings.redis, settings.namespace, settings.retention())
    committed = partial(committed_offsets, settings.kafka, settings.namespace, TOPICS, GROUP)
    ends = partial(log_ends, settings.kafka, settings.namespace, PERSONAL)
    try:
        job = LakeErasures(lake, store, lease, committed, ends, told)
        job.run(stop, settings.features.erase_every_s)
    finally:
        store.close()


def tell(producer: Producer, people: Sequence[ErasedPerson]) -> None:
    """Send other services the visitors of these erasures. Raises `BrokerUnavailableError`."""
    asyncio.run(producer.publish(_notices(people)))


def _notices(people: Sequence[ErasedPerson]) -> list[OutgoingRecord]:
    """The records that list the visitors of these erasures, and their cuts."""
    outgoing = []
    for person in people:
        request = person.request.record
        if not request.erasure_id:
            continue
        visitors = sorted(person.visitor_ids)
        for begin in range(0, len(visitors), _VISITORS):
            told = ErasedVisitors(
                erasure_id=request.erasure_id,
                visitor_ids=visitors[begin : begin + _VISITORS],
                cut=request.cut,
                last=begin + _VISITORS >= len(visitors),
                asked_at=request.timestamp,
                slates_until=person.slates_until,
            )
            outgoing.append(OutgoingRecord(ERASED_VISITORS, told.erasure_id, told))
    return outgoing
