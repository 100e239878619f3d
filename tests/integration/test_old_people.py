"""Records of people on `catalog.v1`, as versions before `people.v1` left them, are dropped."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from kafka import KafkaConsumer, TopicPartition

from services.features.settings import FeaturesSettings
from slipstream.broker.kafka import connection
from slipstream.broker.producer import OutgoingRecord
from slipstream.broker.topics import physical
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.topics import CATALOG
from slipstream.stores.lake import CATALOG as CATALOG_TABLE
from slipstream_cli.__main__ import cli
from tests.integration.running_materializer import RunningMaterializer, running
from tests.integration.shop_stream import events, link, send


def send_as_before(run: RunningMaterializer, entries: list[CatalogRecord]) -> None:
    """Put all entries on `catalog.v1`, each under its entity's key."""
    records = [
        OutgoingRecord(CATALOG, f"{entry.entity}:{entry.entity_id}", entry) for entry in entries
    ]
    asyncio.run(run.producer.publish(records))


def newest(settings: FeaturesSettings) -> dict[str, bytes | None]:
    """The newest value of each key on `catalog.v1`, None for a tombstone."""
    name = physical(settings.namespace, CATALOG)
    consumer = KafkaConsumer(**connection(settings.kafka))
    found: dict[str, bytes | None] = {}
    try:
        partitions = [TopicPartition(name, number) for number in range(CATALOG.partitions)]
        consumer.assign(partitions)
        consumer.seek_to_beginning()
        ends = consumer.end_offsets(partitions)
        while any(consumer.position(each) < ends[each] for each in partitions):
            for records in consumer.poll(500).values():
                found |= {record.key.decode(): record.value for record in records}
    finally:
        consumer.close()
    return found


def entry(entity: str, entity_id: str, **values: object) -> CatalogRecord:
    fields = {"entity": entity, "entity_id": entity_id, "timestamp": 1, **values}
    return CatalogRecord.model_validate(fields)


@pytest.fixture
def command(
    settings: FeaturesSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Result]:
    """Runs the command on the test's namespace."""
    monkeypatch.setenv("SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS", settings.kafka.bootstrap_servers)
    monkeypatch.setenv("SLIPSTREAM_NAMESPACE", settings.namespace)
    arguments = ["drop-old-people", "--data-dir", str(tmp_path)]
    return lambda *options: CliRunner().invoke(cli, [*arguments, *options])


def test_what_features_has_applied_is_dropped_and_stays_in_both_stores(
    settings: FeaturesSettings, command: Callable[..., Result]
) -> None:
    ada = entry("user", "ada", attributes={"plan": "pro"})
    item = entry("item", "lamp", attributes={"title": "Lamp"})
    made = events(40, visitors=2)
    with running(settings) as run:
        send(run.producer, made)
        send_as_before(run, [ada, item, link("u0", "u1"), entry("user", "gone", deleted=True)])
        run.settle()

    assert "would drop  3 records" in command("--dry-run").output
    assert None not in newest(settings).values()
    done = command()
    assert (done.exit_code, "dropped  3 records" in done.output) == (0, True), done.output
    left = newest(settings)
    assert [key for key, value in left.items() if value is not None] == ["item:lamp"]
    assert len(left) == 4
    assert command().exit_code == 0
    assert newest(settings) == left

    with running(settings) as run:
        run.settle()
        state = run.store.visitor("u0")
        assert state is not None and sum(state.counts.values()) == len(made)
        kept = [each.record for each in run.store.catalog_items()]
        assert kept == [item.model_copy(update={"appeared_at": item.timestamp})]
        assert run.lake.count(CATALOG_TABLE) >= 3


@pytest.mark.servers("real")
def test_nothing_is_dropped_while_features_has_not_applied_all(
    settings: FeaturesSettings, command: Callable[..., Result]
) -> None:
    with running(settings) as run:
        send_as_before(run, [entry("user", "ada")])
        run.settle()
    late = RunningMaterializer(settings)
    late.worker.stop()
    send_as_before(late, [entry("user", "ada"), entry("user", "bob")])
    refused = command()
    assert (refused.exit_code, "has not applied 2 of the records" in refused.output) == (1, True)
    assert None not in newest(settings).values()
    late.stop()
    with running(settings) as run:
        run.settle()
    assert command().exit_code == 0
    assert newest(settings) == {"user:ada": None, "user:bob": None}
