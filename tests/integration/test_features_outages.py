"""The materializer while Redis or the lake is away: effects are late, none is lost."""

import shutil
from pathlib import Path

import pytest

from services.features.settings import FeaturesSettings
from services.features.stream.materializer import TOPICS
from slipstream.broker.producer import Producer
from slipstream.broker.topics import ensure_topics
from slipstream.chassis.settings import KafkaSettings, LakeSettings
from slipstream.contracts.topics import INTERACTIONS
from tests.conftest import OwnRedis
from tests.integration.running_materializer import (
    QUICK,
    events_online,
    failure,
    rollbacks,
    running,
    steady,
    until,
)
from tests.integration.shop_stream import assert_exactly, events, send


def test_redis_away_delays_but_loses_nothing(
    broker: KafkaSettings, own_redis: OwnRedis, lake_settings: LakeSettings, namespace: str
) -> None:
    own, server = own_redis()
    settings = FeaturesSettings(
        kafka=broker, redis=own, lake=lake_settings, namespace=namespace, features=QUICK
    )
    made = events(2_000)
    with running(settings) as run:
        send(run.producer, made[:1_000])
        until(lambda: run.materializer.progress().applied > 0)
        server.kill()
        send(run.producer, made[1_000:])
        until(lambda: failure(run.materializer.check_redis) is not None)
        assert "Redis" in str(failure(run.materializer.check_redis))
        assert not run.materializer.progress(0.1).caught_up
        server.start()
        run.settle()
        assert failure(run.materializer.check_redis) is None
        assert_exactly(made, run.store, run.lake)


def test_lake_away_delays_the_commit_but_not_redis(
    settings: FeaturesSettings, tmp_path: Path
) -> None:
    made = events(500)
    blocked = tmp_path / "lake"
    blocked.write_text("a file where the folder should be")
    with running(settings) as run:
        send(run.producer, made)
        until(lambda: failure(run.materializer.check_lake) is not None)
        until(lambda: events_online(run.store) == len(made))
        until(lambda: run.materializer.progress().applied >= len(made))
        assert not run.materializer.progress().caught_up
        blocked.unlink()
        run.settle()
        assert failure(run.materializer.check_lake) is None
        assert_exactly(made, run.store, run.lake)


@pytest.mark.servers("real")  # it takes ten seconds
def test_lag_is_exported_while_reading_pauses_and_falls_to_none(
    settings: FeaturesSettings, tmp_path: Path
) -> None:
    section = QUICK.model_copy(update={"lake_flush_rows": 50})  # 500 rows may wait for the lake
    settings = settings.model_copy(update={"features": section})
    made = events(3_000)
    ensure_topics(settings.kafka, settings.namespace)
    producer = Producer(settings.kafka, settings.namespace)
    # Of each partition's newest batch the embedded broker counts only the first record. Each send
    # makes new batches, so few records stand in the newest.
    for at in range(0, len(made), 300):
        send(producer, made[at : at + 300])
    producer.close()
    blocked = tmp_path / "lake"
    blocked.write_text("a file where the folder should be")
    with running(settings) as run:
        until(lambda: run.materializer.progress().applied >= 500)
        # Not all that waits: part of the newest batches is not counted.
        until(
            lambda: (
                1_000
                < (run.lag(INTERACTIONS) or 0)
                <= len(made) - run.materializer.progress().applied
            )
        )
        blocked.unlink()
        run.settle()
        until(lambda: all(run.lag(topic) == 0 for topic in TOPICS))


def test_redis_that_lost_its_last_writes_gets_them_again(
    broker: KafkaSettings,
    own_redis: OwnRedis,
    lake_settings: LakeSettings,
    namespace: str,
    tmp_path: Path,
) -> None:
    redis, server = own_redis()
    slow = QUICK.model_copy(update={"durable_after_s": 3.0})
    settings = steady(
        FeaturesSettings(
            kafka=broker, redis=redis, lake=lake_settings, namespace=namespace, features=slow
        )
    )
    made = events(900)
    data = next(tmp_path.glob("redis-*"))
    with running(settings) as run:
        send(run.producer, made[:400])
        run.settle()
        shutil.copytree(data, tmp_path / "earlier")
        send(run.producer, made[400:])
        run.settle()
        server.kill()
        shutil.rmtree(data)
        shutil.move(tmp_path / "earlier", data)
        server.start()
        # Only what was really lost counts here, and the stream is read again at once.
        until(lambda: rollbacks(run) >= 1)
        until(lambda: events_online(run.store) == len(made))
        run.settle()
        assert_exactly(made, run.store, run.lake)
