"""People's old records on `catalog.v1`, from before `people.v1`, dropped from the topic."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from services.features.stream.materializer import GROUP
from slipstream.broker.log_ends import committed_offsets
from slipstream.broker.loop import read_to_end
from slipstream.broker.producer import OutgoingRecord, Producer
from slipstream.broker.records import Message
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.contracts.topics import CATALOG, topic_of


@dataclass(slots=True)
class OldPeople:
    """The numbers of records of people on `catalog.v1`, as `find_old_people` counts them.

    `applied` are those that features has applied: they are in Redis and in the lake.
    """

    applied: int = 0
    unapplied: int = 0


def find_old_people(kafka: KafkaSettings, namespace: str, progress: Progress) -> OldPeople:
    """Count the records. Raises `BrokerUnavailableError`."""
    found = OldPeople()
    committed = committed_offsets(kafka, namespace, [CATALOG], GROUP)
    for people in _people(kafka, namespace, progress):
        for each in people:
            if each.offset < committed.get(each.source.name, 0):
                found.applied += 1
            else:
                found.unapplied += 1
    return found


def drop_old_people(kafka: KafkaSettings, namespace: str, progress: Progress) -> None:
    """Write a tombstone under the key of each record of people.

    Features must have applied all of them, or a tombstone could make compaction drop one unread.
    Compaction drops the record then, and later the tombstone. Readers skip tombstones, so this may
    be done again or break off. Raises `BrokerUnavailableError`.
    """
    with closing(Producer(kafka, namespace)) as producer:
        for people in _people(kafka, namespace, progress):
            keys = {each.key for each in people}
            asyncio.run(producer.publish([OutgoingRecord(CATALOG, key, None) for key in keys]))


def _people(
    kafka: KafkaSettings, namespace: str, progress: Progress
) -> Iterator[list[Message[Any]]]:
    read = 0
    for batch in read_to_end(kafka, namespace, CATALOG):
        yield [each for each in batch.messages if topic_of(each.record) != CATALOG]
        read += len(batch.messages)
        progress(ProgressStep("records", read, None))
