"""Wiring of the serving service."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

from fastapi import FastAPI
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped, unused-ignore]

from services.serving.http import list_routes, personal_routes
from services.serving.http.page_requests import CORS, PageReads
from services.serving.http.responses import Parts
from services.serving.metrics import ServingMetrics
from services.serving.open_inference import api as open_inference
from services.serving.replay import api as answers
from services.serving.replay.prices import Prices
from services.serving.replay.replays import Replays
from services.serving.request.line import Line, Shop
from services.serving.request.recording import SlateOutbox
from services.serving.request.store_reads import KeyRates
from services.serving.settings import ServingSettings
from services.serving.state.catalog_feed import CatalogFeed
from services.serving.state.catalog_journal import CatalogJournal
from services.serving.state.item_search import ItemSearch
from services.serving.state.model_cache import ModelCache
from services.serving.state.model_holder import ModelHolder
from services.serving.state.replica_folder import replica_folder
from services.serving.state.topic_states import ExperimentBook, StateBook, StateFeed
from services.serving.state.variant_models import VariantModels
from slipstream.broker.consumer import Consumer
from slipstream.broker.follower import AccessKeyFeed
from slipstream.broker.producer import Producer
from slipstream.broker.watch import ConsumerWatch
from slipstream.chassis.access.tokens import service_credential
from slipstream.chassis.app import create_service, let_pages_read
from slipstream.chassis.client import Peer
from slipstream.contracts.access import Scope
from slipstream.contracts.placements import Placement
from slipstream.contracts.times import now_ms
from slipstream.contracts.topics import CATALOG, EXPERIMENTS, MODEL_EVENTS, PLACEMENTS
from slipstream.models.kernels import lists
from slipstream.models.kernels import slates as slate_kernels
from slipstream.models.kernels.compiler import prepare
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.catalogue.model import Model
from slipstream.slates.making import warm_up
from slipstream.stores.online import OnlineReader, OnlineStore

DESCRIPTION = "Recommendations for a visitor at this moment, from everything up to the last click."
# Longest wait of a slate for others to be sent with it. Every request to the broker costs time of
# the event loop, and no request waits for a slate.
SLATE_LINGER_MS = 100
# Greatest delay of a change of the catalogue, a placement or an experiment, or of a promotion.
# Every fetch costs time of the event loop, full or empty.
FOLLOW_DELAY_MS = 500
# After this time the client gives up a connection. Requests have given it up long before, by a
# clock of their own: the client's counts what the event loop is late.
CONNECTION_TIMEOUT_S = 3.0
# Longest wait of a replay for a peer: features reads the history of the whole catalogue.
REPLAY_TIMEOUT_S = 60.0


def create_app(settings: ServingSettings) -> FastAPI:
    """The app of serving. It opens at once; its servers and training may come later."""
    routers = [
        personal_routes.router,
        list_routes.router,
        list_routes.audience_router,
        answers.router,
        answers.price_router,
        open_inference.router,
    ]
    app = create_service(
        "serving", settings, description=DESCRIPTION, lifespan=_lifespan, routers=routers
    )
    app.add_middleware(open_inference.ProtocolErrors)
    let_pages_read(app, settings.serving.cors_origins, **CORS)
    return app


def load_ahead() -> None:
    """Load the kernels in the process that forks the others, which then share 65 MB of code."""
    prepare(lists.recommend, lists.RECOMMEND)
    prepare(slate_kernels.fill, slate_kernels.FILL)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: ServingSettings = app.state.settings
    chassis, health, own = app.state.metrics, app.state.health, settings.serving
    async with AsyncExitStack() as stack:
        producer = Producer(
            settings.kafka, settings.namespace, linger_ms=SLATE_LINGER_MS, connect=False
        )
        stack.push_async_callback(asyncio.to_thread, producer.close)
        measured = ServingMetrics(chassis.registry)
        measured.watch_slate_failures(lambda: producer.failures)

        slates = SlateOutbox(producer.send_all, partial(measured.failed, "slates"))
        stack.callback(slates.hand_over)
        redis = settings.redis.model_copy(update={"timeout_s": CONNECTION_TIMEOUT_S})
        reader = OnlineReader(redis, settings.namespace)
        store = OnlineStore(settings.redis, settings.namespace)
        stack.push_async_callback(reader.aclose)
        stack.callback(store.close)
        with suppress(TimeoutError):  # it hangs
            async with asyncio.timeout(1.0):
                await reader.refuse_cluster()
        kafka = settings.kafka.model_copy(update={"fetch_max_wait_ms": FOLLOW_DELAY_MS})
        consumer = partial(Consumer, kafka, settings.namespace, group=None)
        catalog = Catalog()
        place = app.state.place
        cache_dir = stack.enter_context(replica_folder(own.cache_dir, leads=not place))
        # A file has one writer.
        of_place = f"-{place}" if place else ""
        journal = CatalogJournal(cache_dir / f"catalog-{settings.namespace}", appends=not place)
        stack.callback(journal.close)
        feed = CatalogFeed(
            catalog, store.catalog_items, lambda: consumer([CATALOG]), journal, chassis, measured
        )
        search = ItemSearch(catalog, cache_dir / f"search-{settings.namespace}{of_place}.db")
        stack.callback(search.close)
        placements = app.state.placements = StateBook[Placement]()
        experiments = app.state.experiments = ExperimentBook()
        placement_feed, experiment_feed = (
            StateFeed(
                topic,
                book,
                partial(consumer, [topic]),
                chassis,
                cache_dir / f"{kind}-{settings.namespace}{of_place}.jsonl",
            )
            for kind, topic, book in (
                ("placements", PLACEMENTS, placements),
                ("experiments", EXPERIMENTS, experiments),
            )
        )
        token = service_credential(settings, "serving")
        training = Peer(
            "training", settings.peers.training_url, timeout_s=settings.peers.timeout_s, token=token
        )
        stack.callback(training.close)
        cache = ModelCache(training, cache_dir)
        warm = partial(warm_up, catalog=catalog)
        models = ModelHolder(
            training,
            cache,
            measured,
            warm,
            required=own.require_model,
            wait_s=own.model_wait_s,
            beside=lambda: variant_models.held.values(),
            moved=lambda alias: variant_models.moved(alias),
        )
        variant_models = VariantModels(
            training,
            cache,
            models,
            measured,
            warm,
            lambda: experiments.models(now_ms()) if experiment_feed.is_known else None,
            own.variant_models,
        )
        line = Line(
            reader,
            Shop(
                catalog,
                lambda: models.current,
                placements.get,
                experiments.of,
                variant_models.get,
            ),
            measured,
            slates.add,
            own,
        )
        stack.callback(line.close)
        stack.callback(asyncio.create_task(line.kept_lists.sweep_for_ever()).cancel)
        # Slates tell a history. A features of before the scope `service` takes `read` for them.
        for_slates = service_credential(settings, "serving", (Scope.READ, Scope.SERVICE))
        peers = {
            name: Peer(name, url, timeout_s=REPLAY_TIMEOUT_S, token=credential)
            for name, url, credential in (
                ("features", settings.peers.features_url, for_slates),
                ("training", settings.peers.training_url, token),
                ("monitoring", settings.peers.monitoring_url, token),
            )
        }
        for peer in peers.values():
            stack.callback(peer.close)
        replay_dir = cache_dir / f"replay-{settings.namespace}{of_place}"

        def in_service() -> Iterable[Model | None]:
            return models.current, models.previous, *variant_models.held.values()

        app.state.replays = Replays(
            peers["features"], peers["training"], peers["monitoring"], in_service, replay_dir
        )
        stack.callback(app.state.replays.close)
        app.state.prices = Prices(
            app.state.replays,
            peers["features"],
            peers["training"],
            in_service,
            replay_dir / "price",
        )

        def placements_without(name: str) -> Collection[str] | None:
            known = placements.states
            return None if name in known or not placement_feed.is_known else known.keys()

        app.state.parts = Parts(
            line,
            models,
            catalog,
            PageReads(app.state.keys, own),
            search,
            KeyRates(own.lists_per_s),
            variant_models.report,
            placements_without,
            lambda: (catalog.columns.names or ()) if feed.is_complete else (),
        )
        promotions = ConsumerWatch(chassis)

        async def can_record() -> None:
            if not producer.opened and not feed.broker_was_away:
                raise RuntimeError("the broker is being looked for")

        health.add("catalog", feed.check)
        health.add("placements", placement_feed.check)
        health.add("experiments", experiment_feed.check)
        health.add("slates", can_record)
        health.add("model", models.check)
        # Not required: recommendations are answered without these, only worse.
        health.add("redis", reader.ping, required=False)
        health.add("kafka", producer.check, required=False)
        health.add("catalog-stream", feed.watch.check, required=False)
        health.add("placements-stream", placement_feed.watch.check, required=False)
        health.add("experiments-stream", experiment_feed.watch.check, required=False)
        if not place:
            health.add("model-events-stream", promotions.check, required=False)
        keys = AccessKeyFeed(
            settings,
            app.state.keys,
            chassis,
            producer,
            kept_in=cache_dir / f"access-keys-{settings.namespace}.jsonl",
        )
        health.add("access-keys", keys.watch.check, required=False)
        stack.push_async_callback(app.state.workers.stop)
        targets: dict[str, Callable[[threading.Event], None]] = {
            "access-keys": keys.run,
            "catalog-snapshot": feed.snapshot,
            "catalog": feed.follow,
            "item-search": search.follow,
            "placements": placement_feed.run,
            "experiments": experiment_feed.run,
        }
        if place:  # the first process fetches models for all
            targets["champion"] = models.follow_cache
            targets["variant-models"] = variant_models.follow_cache
        else:
            targets |= {
                "model-events": lambda stop: models.follow_events(
                    consumer([MODEL_EVENTS]), stop, promotions
                ),
                "champion": lambda stop: models.follow_alias(stop, own.champion_poll_s),
                "variant-models": lambda stop: variant_models.follow_training(
                    stop, own.champion_poll_s
                ),
            }
        for name, target in targets.items():
            app.state.workers.start(name, target, checked=False)
        # The products of one request are small: a second BLAS thread would cost more to wake than
        # it saves.
        stack.enter_context(threadpool_limits(1, user_api="blas"))
        yield
