"""Wiring of the monitoring service."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final

from fastapi import FastAPI

from services.monitoring import api
from services.monitoring.alert_repository import AlertBook
from services.monitoring.alert_rules import BUILT_IN, Rule
from services.monitoring.channels import channels
from services.monitoring.checkup import Checkup, SnapshotCollector
from services.monitoring.console.http import flow as flow_routes
from services.monitoring.console.http import pages as page_routes
from services.monitoring.console.http import peers as peer_routes
from services.monitoring.console.http import session as session_routes
from services.monitoring.console.peers import PeerClient
from services.monitoring.console.session_repository import SessionBook
from services.monitoring.console.streams import Streams
from services.monitoring.console.visitor_slates_repository import VisitorSlates
from services.monitoring.console.watching import FlowWatch, gauge_of, records_target, updates_of
from services.monitoring.consumer import GROUP, TOPICS, consumer_target
from services.monitoring.control.access_repository import AccessKeyBook
from services.monitoring.control.canaries import CanaryWatch
from services.monitoring.control.experiments_repository import ExperimentTable
from services.monitoring.control.http import access as access_routes
from services.monitoring.control.http import alert_rules as alert_rule_routes
from services.monitoring.control.http import experiments as experiment_routes
from services.monitoring.control.http import placements as placement_routes
from services.monitoring.control.named_records_repository import AlertRuleTable, PlacementTable
from services.monitoring.control.publication import StatePublisher, uses_target
from services.monitoring.counting.click_sums import ClickPeriods
from services.monitoring.counting.counter import Counter
from services.monitoring.counting.credit import Rules
from services.monitoring.counting.outcomes_repository import OutcomeTable
from services.monitoring.drift_watch import DriftWatch
from services.monitoring.item_attributes import ItemCatalogue, catalogue_target
from services.monitoring.migrations import MIGRATIONS
from services.monitoring.notifications import Notifier
from services.monitoring.people import api as people_routes
from services.monitoring.people.repository import ErasureLedger, RowDeletion
from services.monitoring.probes import Probes
from services.monitoring.repository import RecordLog
from services.monitoring.sampling import Sampler
from services.monitoring.settings import MonitoringSettings
from services.monitoring.slate_tables import AUDIT
from services.monitoring.timeline import Timeline, runs_of
from services.monitoring.window_repository import WindowLog
from slipstream.broker.consumer import Consumer
from slipstream.broker.follower import DELAY_MS, AccessKeyFeed, Follower
from slipstream.broker.log_ends import committed_offsets
from slipstream.broker.producer import OutgoingRecord, open_producer
from slipstream.broker.watch import ConsumerWatch
from slipstream.chassis.access.sessions import Sessions
from slipstream.chassis.access.tokens import service_credential
from slipstream.chassis.app import create_service
from slipstream.chassis.client import Peer
from slipstream.chassis.metrics import Metrics
from slipstream.chassis.settings import listed
from slipstream.contracts.events import AlertEvent
from slipstream.contracts.services import SERVICES
from slipstream.contracts.times import DAY_MS, now_ms
from slipstream.contracts.topics import (
    ACCESS_KEYS,
    ALERTS,
    CATALOG,
    EXPERIMENTS,
    PLACEMENTS,
    Topic,
)
from slipstream.stores.lake_reader import LakeReader
from slipstream.stores.lease import Lease
from slipstream.stores.metadata import AuditLog, engine
from slipstream.stores.migrations import migrate

# Objects made before the garbage collector looks for cycles. A batch has thousands of slates, and
# none is part of a cycle.
COLLECT_AFTER = 1_000_000

DESCRIPTION = (
    "Click-through and conversion of slates, drift and faults of what models read and say, "
    "and alerts. "
    "The first page for people is at `/`."
)

# Records that may wait while windows are judged: more are of a backlog, which has slates of windows
# that have ended.
_CAUGHT_UP: Final = 10_000
# Patience for features' part of a receipt: it lists the files of the lake, which takes seconds in
# a large one.
_RECEIPT_S: Final = 20.0
# Patience for the number of items that rules match, which a change does not need.
_MATCHES_S: Final = 3.0


def create_app(settings: MonitoringSettings) -> FastAPI:
    """The monitoring service's app.

    It opens when the database and a broker answer and it holds the lease.
    """
    routers = [
        page_routes.pages,
        page_routes.router,
        session_routes.router,
        flow_routes.router,
        peer_routes.router,
        api.router,
        access_routes.router,
        people_routes.router,
        placement_routes.router,
        experiment_routes.router,
        alert_rule_routes.router,
    ]
    sessions = Sessions()
    app = create_service(
        "monitoring",
        settings,
        description=DESCRIPTION,
        lifespan=_lifespan,
        routers=routers,
        sessions=sessions,
    )
    page_routes.answer_browsers(app)
    app.state.sessions = sessions
    app.state.collect_after = COLLECT_AFTER
    app.state.lease = Lease("monitoring", settings.database.lease_s, app.state.ending.ask)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: MonitoringSettings = app.state.settings
    async with AsyncExitStack() as stack:
        database = engine(settings.database)
        stack.callback(database.dispose)
        lease: Lease = app.state.lease
        await asyncio.to_thread(lease.take, database, partial(migrate, migrations=MIGRATIONS))
        stack.push_async_callback(asyncio.to_thread, lease.release)
        records = RecordLog(database)
        told = channels(settings.monitoring.notify_urls.get_secret_value())
        book = AlertBook(database, told)
        producer = await open_producer(settings.kafka, settings.namespace)
        stack.push_async_callback(asyncio.to_thread, producer.close)
        probes = _probes(settings)
        stack.push_async_callback(asyncio.to_thread, probes.close)

        async def publish(records: Sequence[OutgoingRecord]) -> None:
            """Publish while the lease is held: another instance may know better by now."""
            await asyncio.to_thread(lease.renew)
            await producer.publish(records)

        def announce(events: Sequence[AlertEvent]) -> None:
            asyncio.run(publish([OutgoingRecord(ALERTS, event.rule, event) for event in events]))

        alert_rules = AlertRuleTable(database)
        await asyncio.to_thread(alert_rules.ship, now_ms())

        def judged() -> Sequence[Rule]:
            return [*BUILT_IN, *alert_rules.rules()]

        placements, experiments = PlacementTable(database), ExperimentTable(database)
        own = settings.monitoring
        lengths = {own.drift_window_s * 1000, own.fault_window_s * 1000}
        catalogue = ItemCatalogue()
        sampler = Sampler(lengths, own.drift_max_samples, catalogue)
        watch, catalogue_watch = (ConsumerWatch(app.state.metrics) for _ in range(2))
        windows = WindowLog(database)
        drift = DriftWatch(
            windows,
            own,
            catalogue,
            sampler.expect,
            lambda: watch.lag_is_known and watch.lag <= _CAUGHT_UP,
        )
        ledger = ErasureLedger(database, settings.monitoring.erasure_rewrite_max_mb * 2**20)
        outcomes = OutcomeTable(database, ledger.marks_of)
        checkup = Checkup(
            records,
            outcomes.counts,
            drift,
            book,
            probes,
            judged,
            settings.monitoring,
            announce,
            now_ms,
            experiments.returned,
            lambda: flow_watch.rejections(),
        )
        SnapshotCollector(checkup, app.state.metrics.registry)
        committed = partial(committed_offsets, settings.kafka, settings.namespace, TOPICS, GROUP)
        deletion = RowDeletion(ledger, committed, now_ms, lease.renew)
        lake = LakeReader(settings.lake, settings.namespace)
        periods = ClickPeriods(
            lake,
            outcomes,
            windows,
            own.quality_period_s * 1000,
            own.attribution_window_s * 1000,
            lease.renew,
        )
        counter = Counter(
            lake,
            outcomes,
            Rules(own.attribution_window_s * 1000, own.credit_d * DAY_MS),
            now_ms,
            lease.renew,
            periods.step,
        )
        app.state.people = _people(settings, records, outcomes, ledger)
        for peer in (app.state.people.features, app.state.people.training):
            stack.callback(peer.close)
        audit = AuditLog(database, AUDIT)
        timeline = Timeline(
            book,
            records,
            outcomes.counts,
            partial(runs_of, app.state.people.training),
            audit,
        )
        app.state.parts = api.Parts(
            records, book, checkup, settings.monitoring, now_ms, timeline, outcomes
        )
        keys = AccessKeyBook(database)
        key_publisher = StatePublisher(ACCESS_KEYS, keys, publish)
        app.state.access = access_routes.AccessParts(keys, audit, key_publisher.wake, now_ms)
        key_feed = AccessKeyFeed(
            settings, app.state.keys, app.state.metrics, producer, key_publisher.renew
        )
        placement_publisher = StatePublisher(PLACEMENTS, placements, publish)
        experiment_publisher = StatePublisher(EXPERIMENTS, experiments, publish)
        rule_counts = Peer(
            "serving",
            settings.peers.serving_url,
            timeout_s=_MATCHES_S,
            retries=0,
            token=service_credential(settings, "monitoring"),
        )
        stack.callback(rule_counts.close)
        app.state.placements = placement_routes.PlacementRoutes(
            "placement",
            placements,
            placement_publisher.wake,
            now_ms,
            experiments,
            outcomes,
            rule_counts,
        )
        app.state.experiments = experiment_routes.ExperimentRoutes(
            "experiment", experiments, experiment_publisher.wake, now_ms
        )
        app.state.alert_rules = alert_rule_routes.AlertRuleRoutes(
            "alert rule", alert_rules, lambda: None, now_ms
        )
        canaries = CanaryWatch(experiments, experiment_publisher.wake, lease.renew, now_ms)
        placement_follower, experiment_follower = (
            _renewals(topic, settings, app.state.metrics, publisher)
            for topic, publisher in (
                (PLACEMENTS, placement_publisher),
                (EXPERIMENTS, experiment_publisher),
            )
        )
        book_of_sessions = SessionBook(database)
        app.state.sessions.restore(await asyncio.to_thread(book_of_sessions.all))
        app.state.session_parts = session_routes.SessionParts(book_of_sessions, app.state.sessions)
        app.state.peers = _peers(settings)
        stack.push_async_callback(app.state.peers.aclose)
        streams = Streams(flow_routes.written, now_ms)
        app.state.on_stop.append(streams.end)
        flow_watch = _flow_watch(settings, streams, checkup)
        app.state.flow_parts = flow_routes.FlowParts(
            flow_watch, streams, VisitorSlates(lake, database, now_ms).newest
        )
        app.state.health.add("kafka", producer.check)
        app.state.health.add("stream", watch.check)
        app.state.health.add("database", lambda: asyncio.to_thread(records.ping))
        app.state.health.add("access-keys", key_feed.watch.check, required=False)
        app.state.health.add("placements", placement_follower.watch.check, required=False)
        app.state.health.add("experiments", experiment_follower.watch.check, required=False)
        app.state.health.add("catalogue", catalogue_watch.check, required=False)
        stack.push_async_callback(app.state.workers.stop)
        app.state.workers.start("lease", lease.keep)
        app.state.workers.start("access-keys", key_feed.run, checked=False)
        app.state.workers.start("access-key-publisher", key_publisher.run, checked=False)
        app.state.workers.start(
            "access-key-uses", uses_target(settings, keys, app.state.metrics), checked=False
        )
        app.state.workers.start("placements", placement_follower.run, checked=False)
        app.state.workers.start("placement-publisher", placement_publisher.run, checked=False)
        app.state.workers.start("experiments", experiment_follower.run, checked=False)
        app.state.workers.start("experiment-publisher", experiment_publisher.run, checked=False)
        app.state.workers.start(
            "consumer", consumer_target(settings, records, ledger, sampler, watch, now_ms)
        )
        unhurried = settings.kafka.model_copy(update={"fetch_max_wait_ms": DELAY_MS})
        read_catalogue = partial(Consumer, unhurried, settings.namespace, [CATALOG], group=None)
        app.state.workers.start(
            "catalogue",
            catalogue_target(catalogue, read_catalogue, catalogue_watch),
            checked=False,
        )
        app.state.workers.start("checks", checkup.run)
        if told:
            notifier = Notifier(
                book, told, settings.namespace, settings.runbook_address, lease.renew, now_ms
            )
            app.state.workers.start("notices", notifier.run, checked=False)
        app.state.workers.start("erasures", lambda stop: deletion.run(stop, own.erase_every_s))
        app.state.workers.start(
            "outcomes",
            lambda stop: counter.run(stop, own.count_every_s, own.report_retention_d * DAY_MS),
            checked=False,
        )
        app.state.workers.start("flow", flow_watch.run, checked=False)
        app.state.workers.start(
            "records", records_target(settings.kafka, settings.namespace, streams), checked=False
        )
        app.state.workers.start("canaries", lambda stop: canaries.run(stop, own.guard_every_s))
        yield


def _renewals(
    topic: Topic, settings: MonitoringSettings, metrics: Metrics, publisher: StatePublisher
) -> Follower:
    """A follower of our own topic, which publishes all states after the topic was recreated."""
    kafka = settings.kafka.model_copy(update={"fetch_max_wait_ms": DELAY_MS})
    return Follower(
        topic,
        partial(Consumer, kafka, settings.namespace, [topic], group=None),
        lambda _: None,
        metrics,
        renewed=publisher.renew,
    )


def _peers(settings: MonitoringSettings) -> PeerClient:
    urls = {name: getattr(settings.peers, f"{name}_url") for name in SERVICES}
    return PeerClient(urls, service_credential(settings, "monitoring"))


def _flow_watch(settings: MonitoringSettings, streams: Streams, checkup: Checkup) -> FlowWatch:
    return FlowWatch(
        gauge_of(settings.kafka, settings.namespace),
        updates_of(settings.kafka, settings.namespace),
        streams,
        lambda: snapshot.services if (snapshot := checkup.fresh()) is not None else (),
        lambda: len(checkup.open_alerts),
        now_ms,
    )


def _people(
    settings: MonitoringSettings, records: RecordLog, outcomes: OutcomeTable, ledger: ErasureLedger
) -> people_routes.PeopleParts:
    peers, token = settings.peers, service_credential(settings, "monitoring")
    return people_routes.PeopleParts(
        Peer("features", peers.features_url, timeout_s=_RECEIPT_S, token=token),
        Peer("training", peers.training_url, timeout_s=peers.timeout_s, token=token),
        records,
        outcomes,
        ledger,
        settings.monitoring,
        now_ms,
    )


def _probes(settings: MonitoringSettings) -> Probes:
    own, peers = settings.monitoring, settings.peers
    timeout_s, may_sleep = own.probe_timeout_s, listed(own.may_sleep)
    token = service_credential(settings, "monitoring")
    urls = {name: getattr(peers, f"{name}_url") for name in SERVICES}
    training = Peer("training", peers.training_url, timeout_s=timeout_s, retries=0, token=token)
    features = Peer("features", peers.features_url, timeout_s=timeout_s, retries=0, token=token)
    return Probes(urls, training, features, timeout_s=timeout_s, may_sleep=may_sleep)
