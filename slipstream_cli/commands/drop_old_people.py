"""`slipstream drop-old-people`: a one-time step after the upgrade that made `people.v1`."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slipstream_cli.options import data_dir_option
from slipstream_cli.peers import broker_of

if TYPE_CHECKING:
    from slipstream.broker.records import Message
    from slipstream.chassis.settings import KafkaSettings
    from slipstream.contracts.progress import Progress


@click.command("drop-old-people", short_help="Drop people's old records from catalog.v1.")
@click.option("--dry-run", is_flag=True, help="Count the records, and drop none.")
@data_dir_option("Data folder of the stack with the topic, where the environment names none.")
def drop_old_people(dry_run: bool, data_dir: Path) -> None:
    """Drop people's old records from catalog.v1, once all services have been upgraded.

    Users, links and erasures have been on people.v1 since that topic came. What was sent before
    stays on catalog.v1 for ever, and serving reads it at each start. Once features has applied all
    of it, it is in Redis and in the lake, and can be dropped. The topic is that of the stack that
    runs on the data folder, or of the broker that SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS names, in
    SLIPSTREAM_NAMESPACE.

    It can be repeated, and services may run meanwhile.

    \b
    Example:  slipstream drop-old-people --dry-run
              slipstream drop-old-people
    """
    from slipstream.broker.kafka import BrokerUnavailableError
    from slipstream_cli.local.terminal import Terminal

    kafka, namespace = broker_of(data_dir)
    try:
        applied, unapplied = _found(kafka, namespace, Terminal().bar())
        if unapplied:
            raise click.ClickException(
                f"features has not applied {unapplied:,} of the records yet, and nothing is "
                "dropped. Once it has caught up (its /v1/status), run this again."
            )
        if applied and not dry_run:
            _drop(kafka, namespace, Terminal().bar())
    except BrokerUnavailableError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{'would drop' if dry_run else 'dropped'}  {applied:,} records of people")


def _found(kafka: "KafkaSettings", namespace: str, progress: "Progress") -> tuple[int, int]:
    """The numbers of records that features has applied, and of those that it has not.

    Raises `BrokerUnavailableError`.
    """
    from services.features.stream.materializer import GROUP
    from slipstream.broker.log_ends import committed_offsets
    from slipstream.contracts.topics import CATALOG

    applied = unapplied = 0
    committed = committed_offsets(kafka, namespace, [CATALOG], GROUP)
    for people in _people(kafka, namespace, progress):
        for each in people:
            if each.offset < committed.get(each.source.name, 0):
                applied += 1
            else:
                unapplied += 1
    return applied, unapplied


def _drop(kafka: "KafkaSettings", namespace: str, progress: "Progress") -> None:
    """Write a tombstone under the key of each record of people.

    Features must have applied all of them, or a tombstone could make compaction drop one unread.
    Compaction drops the record then, and later the tombstone. Readers skip tombstones, so this may
    be done again or break off. Raises `BrokerUnavailableError`.
    """
    from slipstream.broker.producer import OutgoingRecord, Producer
    from slipstream.contracts.topics import CATALOG

    with closing(Producer(kafka, namespace)) as producer:
        for people in _people(kafka, namespace, progress):
            keys = {each.key for each in people}
            asyncio.run(producer.publish([OutgoingRecord(CATALOG, key, None) for key in keys]))


def _people(
    kafka: "KafkaSettings", namespace: str, progress: "Progress"
) -> "Iterator[list[Message[Any]]]":
    from slipstream.broker.loop import read_to_end
    from slipstream.contracts.progress import ProgressStep
    from slipstream.contracts.topics import CATALOG, topic_of

    read = 0
    for batch in read_to_end(kafka, namespace, CATALOG):
        yield [each for each in batch.messages if topic_of(each.record) != CATALOG]
        read += len(batch.messages)
        progress(ProgressStep("records", read, None))
