"""Services read the topics that the table says they read."""

from services.features.stream import materializer
from services.monitoring import consumer as monitoring
from slipstream.contracts.services import SERVICES
from slipstream.contracts.topics import (
    ACCESS_KEY_USES,
    ACCESS_KEYS,
    CATALOG,
    EXPERIMENTS,
    PLACEMENTS,
    TOPICS,
)


def declared(service: str) -> set[str]:
    """The topics that a service reads in its group. Those of states are read without one."""
    of_states = {ACCESS_KEYS.name, ACCESS_KEY_USES.name, PLACEMENTS.name, EXPERIMENTS.name}
    if service == "monitoring":
        of_states |= {CATALOG.name}
    return {topic.name for topic in TOPICS if service in topic.consumers} - of_states


def test_every_service_reads_the_access_keys() -> None:
    assert set(ACCESS_KEYS.consumers) == set(SERVICES)


def test_features_reads_what_the_table_says() -> None:
    assert {topic.name for topic in materializer.TOPICS} == declared("features")


def test_monitoring_reads_what_the_table_says() -> None:
    assert {topic.name for topic in monitoring.TOPICS} == declared("monitoring")
