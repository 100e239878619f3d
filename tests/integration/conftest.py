"""Fixtures of the tests on three brokers, and of those that run features' materializer."""

from collections.abc import Iterator

import pytest

from services.features.settings import FeaturesSettings
from slipstream.chassis.settings import KafkaSettings, LakeSettings, RedisSettings
from tests.integration.brokers import Cluster, three_brokers
from tests.integration.running_materializer import QUICK


@pytest.fixture(scope="session")
def started_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The three brokers that all tests of a process share; take `cluster`."""
    with three_brokers(tmp_path_factory.mktemp("brokers")) as cluster:
        yield cluster


@pytest.fixture
def cluster(started_cluster: Cluster) -> Iterator[Cluster]:
    """Three brokers, all of which are up before and after the test."""
    yield started_cluster
    started_cluster.restore()


@pytest.fixture
def settings(
    broker: KafkaSettings,
    redis_settings: RedisSettings,
    lake_settings: LakeSettings,
    namespace: str,
) -> FeaturesSettings:
    """Settings of a materializer on the shared servers, that flushes and commits soon."""
    return FeaturesSettings(
        kafka=broker, redis=redis_settings, lake=lake_settings, namespace=namespace, features=QUICK
    )
