"""Wiring of the training service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from threading import Event

from fastapi import FastAPI

from services.training import api
from services.training.erasures import ModelDeletion
from services.training.lake_erasures import Erasures
from services.training.metrics import TrainingMetrics
from services.training.migrations import MIGRATIONS
from services.training.mlflow_connection import load_mlflow, tracking_uri
from services.training.model_events import Announcer
from services.training.publish import ModelPublisher
from services.training.registry import ModelRegistry
from services.training.repository import AUDIT, ModelEventBook, Repository
from services.training.run.child_process import ChildStarter
from services.training.run.exchange import open_exchange
from services.training.run.job import Job
from services.training.run.kubernetes_jobs import open_jobs
from services.training.run.launcher import Launcher, Starter
from services.training.runs import Runs
from services.training.settings import TrainingSettings
from services.training.triggers import Triggers
from services.training.waiting_alert_repository import WaitingAlerts
from slipstream.broker.consumer import Consumer
from slipstream.broker.follower import AccessKeyFeed
from slipstream.broker.loop import consume
from slipstream.broker.producer import open_producer
from slipstream.broker.watch import ConsumerWatch
from slipstream.chassis.app import create_service
from slipstream.chassis.dependencies import StandbyError
from slipstream.contracts.rest import Run
from slipstream.contracts.topics import ALERTS
from slipstream.contracts.vocabulary import CHAMPION
from slipstream.stores import metadata
from slipstream.stores.artifacts import Artifacts
from slipstream.stores.lake import Lake
from slipstream.stores.lease import Lease
from slipstream.stores.metadata import AuditLog
from slipstream.stores.migrations import migrate


def starter_of(settings: TrainingSettings) -> Starter:
    """The starter of runs that the settings name.

    Raises RefusedSettingsError where it is Kubernetes, and this process is in no pod or the cluster
    lacks what the settings ask for.
    """
    section = settings.training
    if section.launcher == "process":
        return ChildStarter(settings)
    if section.launcher == "kubernetes":
        return open_jobs(section)
    return Starter()


DESCRIPTION = (
    "Fits models on the lake, measures them against the champion, and promotes the better one."
)
# Most time until an alert is read (ms). A run takes minutes, and every fetch, full or empty, costs
# the machine time.
ALERT_DELAY_MS = 500


def create_app(settings: TrainingSettings) -> FastAPI:
    """The training service's app.

    It opens when the database and a broker answer and it holds the lease; the registry follows some
    seconds later.
    """
    app = create_service(
        "training",
        settings,
        description=DESCRIPTION,
        lifespan=_lifespan,
        routers=[api.router],
    )
    app.state.lease = Lease("training", settings.database.lease_s, app.state.ending.ask)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: TrainingSettings = app.state.settings
    section, chassis, health = settings.training, app.state.metrics, app.state.health
    lease: Lease = app.state.lease
    async with AsyncExitStack() as stack:
        engine = metadata.engine(settings.database)
        stack.callback(engine.dispose)
        try:
            await asyncio.to_thread(lease.take, engine, partial(migrate, migrations=MIGRATIONS))
        except StandbyError:
            # Seconds, once, that taking over then need not wait for.
            await asyncio.to_thread(load_mlflow)
            raise
        stack.push_async_callback(asyncio.to_thread, lease.release)
        repository, alerts, events = (
            Repository(engine),
            WaitingAlerts(engine),
            ModelEventBook(engine),
        )
        producer = await open_producer(settings.kafka, settings.namespace)
        stack.push_async_callback(asyncio.to_thread, producer.close)
        metrics = TrainingMetrics(chassis.registry)
        artifacts, lake = Artifacts(settings.artifacts), Lake(settings.lake, settings.namespace)
        registry = ModelRegistry(
            tracking_uri(section.tracking_uri.get_secret_value(), settings.database),
            artifacts,
            guard=lease.guard,
        )
        announcer = Announcer(events, producer.publish, lease.renew)
        publisher = ModelPublisher(
            registry,
            repository,
            artifacts,
            events,
            announcer.wake,
            section,
            metrics,
            settings.lake.uri,
            lambda: [f"{alert.rule}: {alert.summary}" for alert in alerts.holding()],
        )
        starter = await asyncio.to_thread(starter_of, settings)
        runs = Runs(
            repository,
            artifacts,
            prepare=partial(_job, settings, registry, artifacts),
            launcher=Launcher(open_exchange(settings), starter),
            publish=publisher.publish,
            resume=publisher.resume,
            metrics=metrics,
            timeout_s=section.run_timeout_s,
            failed=publisher.note_failure,
            onset=alerts.onset,
        )
        triggers = Triggers(runs, repository, alerts, lake, section)
        audit = AuditLog(engine, AUDIT)
        deletion = ModelDeletion(Erasures(lake), publisher, runs, audit, metrics, section)
        kafka = settings.kafka.model_copy(update={"fetch_max_wait_ms": ALERT_DELAY_MS})
        watch = ConsumerWatch(chassis)

        def work(stop: Event) -> None:
            while not registry.wait_opened(0.2):
                if stop.is_set():
                    return
            runs.work(stop)

        def read_alerts(stop: Event) -> None:
            consume(
                Consumer(kafka, settings.namespace, [ALERTS], "training"),
                triggers.on_alerts,
                stop,
                watch,
            )

        app.state.parts = api.Parts(repository, runs, publisher, registry, artifacts, audit)
        app.state.deletion = deletion
        health.add("registry", partial(asyncio.to_thread, registry.check))
        health.add("database", partial(asyncio.to_thread, repository.check))
        health.add("kafka", producer.check)
        health.add("alerts-stream", watch.check)
        keys = AccessKeyFeed(settings, app.state.keys, chassis, producer)
        health.add("access-keys", keys.watch.check, required=False)
        stack.push_async_callback(app.state.workers.stop)
        app.state.workers.start("access-keys", keys.run, checked=False)
        # It ends once the registry is open, so the worker is not checked; the registry is.
        app.state.workers.start("registry", lambda _stop: _open(registry, metrics), checked=False)
        targets = {
            "lease": lease.keep,
            "announcer": announcer.run,
            "runs": work,
            "triggers": triggers.watch,
            "model-deletion": deletion.run,
            "alerts": read_alerts,
        }
        for name, target in targets.items():
            app.state.workers.start(name, target)
        yield


def _open(registry: ModelRegistry, metrics: TrainingMetrics) -> None:
    registry.open()
    if champion := registry.alias(CHAMPION):
        metrics.champion(champion.version)


def _job(
    settings: TrainingSettings,
    registry: ModelRegistry,
    artifacts: Artifacts,
    run: Run,
    output: Path,
    checkpoints: Path,
) -> Job:
    champion = registry.alias(CHAMPION)
    return Job(
        version=run.run_id,
        profile=run.profile,
        namespace=settings.namespace,
        lake=settings.lake,
        training=settings.training,
        output=output,
        checkpoints=checkpoints,
        champion=artifacts.place(champion.version) if champion else None,
        champion_version=champion.version if champion else None,
        lake_version=run.lake_version,
        catalog_version=run.catalog_version,
        onset=run.onset,
    )
