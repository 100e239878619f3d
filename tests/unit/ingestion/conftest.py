"""The API in front of a producer that acknowledges everything."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from tests.unit.ingestion.collector import Acknowledging, collecting


@pytest.fixture(scope="module")
def producer() -> Acknowledging:
    return Acknowledging()


@pytest.fixture(scope="module")
def client_of_module(producer: Acknowledging) -> Iterator[TestClient]:
    limits = {"max_batch_events": 20, "max_event_bytes": 1_000, "max_body_bytes": 20_000}
    with collecting(producer, **limits) as client:
        yield client


@pytest.fixture
def client(client_of_module: TestClient, producer: Acknowledging) -> TestClient:
    """A client with small limits; its producer has published nothing yet."""
    producer.published.clear()
    producer.away = False
    return client_of_module
