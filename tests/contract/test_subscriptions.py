"""Services read the topics that the table says they read."""

from services.features.stream import materializer
from services.monitoring import consumer as monitoring
from slipstream.contracts.topics import TOPICS


def declared(service: str) -> set[str]:
    return {topic.name for topic in TOPICS if service in topic.consumers}


def test_features_reads_what_the_table_says() -> None:
    assert {topic.name for topic in materializer.TOPICS} == declared("features")


def test_monitoring_reads_what_the_table_says() -> None:
    assert {topic.name for topic in monitoring.TOPICS} == declared("monitoring")
