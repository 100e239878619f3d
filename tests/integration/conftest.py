"""Fixtures of the tests on three brokers."""

from collections.abc import Iterator

import pytest

from tests.integration.brokers import Cluster, three_brokers


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
