"""Fixtures of the tests on three brokers, on a Redis Cluster, of the online store, and of features'
materializer.
"""

from collections.abc import Iterator

import pytest

from services.features.settings import FeaturesSettings
from slipstream.chassis.settings import KafkaSettings, LakeSettings, RedisSettings
from slipstream.stores.online import OnlineStore
from tests.integration.brokers import Cluster, three_brokers
from tests.integration.cluster_losses import Losses
from tests.integration.launched_services import launch
from tests.integration.running_materializer import QUICK
from tests.integration.training_service import make_settings
from tests.redis_clusters import running_cluster
from tests.unit.training.registries import mlflow_template

__all__ = ["launch", "make_settings", "mlflow_template"]


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


@pytest.fixture(scope="session")
def losses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Losses]:
    """The Redis Cluster of three nodes that all tests of a process share, each of which can crash
    and lose something.
    """
    directory = tmp_path_factory.mktemp("cluster")
    with running_cluster(directory) as children:
        yield Losses(directory, children)


@pytest.fixture
def store(redis_settings: RedisSettings, namespace: str) -> Iterator[OnlineStore]:
    """The online store on the shared Redis."""
    made = OnlineStore(redis_settings, namespace)
    yield made
    made.close()


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
