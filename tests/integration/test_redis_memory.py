"""A Redis that would evict keys is refused, and the memory of any other is reported."""

import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from services.features import app
from services.features.app import watch_redis
from services.features.metrics import RedisMetrics
from slipstream.chassis.dependencies import RefusedSettingsError
from slipstream.chassis.settings import KafkaSettings
from slipstream.stores.online import OnlineStore
from tests.conftest import OwnRedis
from tests.integration.launched_services import Launch, lines
from tests.integration.redis_failures import client_of
from tests.waiting import until


@pytest.mark.parametrize("name", ["features", "ingestion"])
def test_service_ends_with_a_sentence_where_redis_evicts(
    name: str, launch: Launch, broker: KafkaSettings, own_redis: OwnRedis, tmp_path: Path
) -> None:
    redis, _ = own_redis()
    client_of(redis).config_set("maxmemory-policy", "volatile-lru")
    child = launch(
        name,
        kafka__bootstrap_servers=broker.bootstrap_servers,
        kafka__session_timeout_ms=str(broker.session_timeout_ms),
        redis__url=redis.url.get_secret_value(),
    )
    until(lambda: not child.alive)
    assert child.status == 1
    (said,) = [line for line in lines(tmp_path, name) if line["level"] == "critical"]
    assert "maxmemory-policy volatile-lru" in said["reason"]
    assert "set maxmemory-policy noeviction" in said["reason"]


def test_memory_is_told_again_and_again_and_a_policy_set_later_is_refused(
    own_redis: OwnRedis, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_LOOK_EVERY_S", 0.01)
    settings, server = own_redis()
    client, registry, refused = client_of(settings), CollectorRegistry(), threading.Event()
    store = OnlineStore(settings, namespace)
    measured = RedisMetrics(registry)

    def value(name: str) -> float:
        return registry.get_sample_value(f"slipstream_redis_memory_{name}") or 0.0

    def watch() -> None:
        with pytest.raises(RefusedSettingsError, match="allkeys-lfu"):
            watch_redis(store, measured, threading.Event())
        refused.set()

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    until(lambda: value("bytes") > 100_000)
    assert value("limit_bytes") == 0
    server.kill()
    server.start()
    client.config_set("maxmemory", 50_000_000)
    until(lambda: value("limit_bytes") == 50_000_000)
    client.config_set("maxmemory-policy", "allkeys-lfu")
    assert refused.wait(60)
    store.close()
