"""Features processes are killed amid a stream with links: each event and link counts once."""

import os
import random
import sys
import time
import urllib.error
import urllib.request

import orjson
import pytest

from slipstream.broker.producer import Producer
from slipstream.broker.topics import ensure_topics
from slipstream.chassis.settings import KafkaSettings, LakeSettings, RedisSettings
from slipstream.stores.lake import Lake
from slipstream.stores.online import OnlineStore
from slipstream_cli.local.processes import Child, free_port
from tests.conftest import OwnRedis
from tests.integration.shop_stream import assert_exactly, events, link, send, send_entries
from tests.waiting import until

ENTRY = """
from services.features.app import create_app
from services.features.settings import FeaturesSettings
from slipstream.chassis.server import serve
from slipstream.chassis.logging import configure_logging
settings = FeaturesSettings()
configure_logging(settings.log, "features")
serve(create_app(settings), settings, "features")
"""
KILLS = 4
EVENTS = 20_000
# A third of the visitors, each with the user that a link makes of it.
MERGED = {f"u{n}": f"u{n - 1}" for n in range(1, 150, 3)}


@pytest.mark.servers("real")
def test_every_event_counts_once_when_features_is_killed_again_and_again(
    broker: KafkaSettings,
    redis_settings: RedisSettings,
    lake_settings: LakeSettings,
    namespace: str,
) -> None:
    store, history = OnlineStore(redis_settings, namespace), Lake(lake_settings, namespace)
    ensure_topics(broker, namespace)
    producer = Producer(broker, namespace)
    made = events(EVENTS)
    moments = random.Random(11)
    process = _features(broker, redis_settings, lake_settings, namespace)
    part = EVENTS // (KILLS + 1)
    try:
        for kill in range(KILLS):
            process.launch()
            before = store.watermark()
            send(producer, made[kill * part : (kill + 1) * part])
            send_entries(producer, [link(*pair) for pair in list(MERGED.items())[kill::KILLS]])
            until(lambda since=before: store.watermark() != since)
            # Somewhere between the first effect, the lake and the commit.
            time.sleep(moments.uniform(0.0, 1.5))
            process.kill()
        process.start(60)
        send(producer, made[KILLS * part :])
        until(lambda: bool(_get(process, "/v1/status").get("caught_up")))
        status = _get(process, "/v1/status")
        assert status["lake"]["interactions"] == EVENTS
        assert status["lag"] == 0
        assert status["watermark"] == max(event.timestamp for event in made)
        assert process.stop(), "it did not obey SIGTERM in time"
        assert_exactly(made, store, history, MERGED)
    finally:
        process.kill()
        producer.close()
        store.close()


@pytest.mark.servers("real")  # it takes ten seconds
def test_one_of_two_consumers_is_killed_and_redis_restarts(
    broker: KafkaSettings, own_redis: OwnRedis, lake_settings: LakeSettings, namespace: str
) -> None:
    redis, server = own_redis()
    store, history = OnlineStore(redis, namespace), Lake(lake_settings, namespace)
    ensure_topics(broker, namespace)
    producer = Producer(broker, namespace)
    made = events(12_000)
    survivor, victim = (_features(broker, redis, lake_settings, namespace) for _ in range(2))
    try:
        survivor.start(60)
        victim.start(60)
        # Both have partitions then. Before that, the first would read what is meant for both.
        until(lambda: bool(_get(survivor, "/v1/status").get("caught_up")))
        until(lambda: bool(_get(victim, "/v1/status").get("caught_up")))
        for part in range(4):
            send(producer, made[part * 3_000 : (part + 1) * 3_000])
            send_entries(producer, [link(*pair) for pair in list(MERGED.items())[part::4]])
            if part == 1:
                until(lambda: _get(survivor, "/v1/status")["applied"] > 0)
                until(lambda: _get(victim, "/v1/status")["applied"] > 0)
                victim.kill()
            if part == 2:
                server.kill()
                server.start()
        until(lambda: history.count("interactions") == len(made))
        until(lambda: bool(_get(survivor, "/v1/status").get("caught_up")))
        assert survivor.stop(), "it did not obey SIGTERM in time"
        assert_exactly(made, store, history, MERGED)
    finally:
        survivor.kill()
        victim.kill()
        producer.close()
        store.close()


def _features(
    kafka: KafkaSettings, redis: RedisSettings, lake: LakeSettings, namespace: str
) -> Child:
    port = free_port()
    environment = os.environ | {
        "SLIPSTREAM_NAMESPACE": namespace,
        "SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "SLIPSTREAM_KAFKA__SESSION_TIMEOUT_MS": str(kafka.session_timeout_ms),
        "SLIPSTREAM_REDIS__URL": redis.url.get_secret_value(),
        "SLIPSTREAM_LAKE__URI": lake.uri,
        "SLIPSTREAM_HTTP__PORT": str(port),
        "SLIPSTREAM_FEATURES__LAKE_FLUSH_S": "0.3",
        "SLIPSTREAM_FEATURES__DURABLE_AFTER_S": "1.0",
        "SLIPSTREAM_FEATURES__MAX_POLL_RECORDS": "500",
    }
    return Child(
        "features",
        port,
        [sys.executable, "-c", ENTRY],
        _answers,
        grace_s=60.0,
        environment=environment,
    )


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, TimeoutError):
        return False


def _get(process: Child, path: str) -> dict:
    with urllib.request.urlopen(f"http://{process.address}{path}", timeout=30) as answer:
        body: dict = orjson.loads(answer.read())
        return body
