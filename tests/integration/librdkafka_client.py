"""librdkafka, unmodified, in a new group:
`python librdkafka_client.py ADDRESS TOPIC RECORDS SESSION_MS`.

It runs in an environment of its own (`make clients`), and prints the version at the end. kcat is
made of the same library, and has the same settings.
"""

import sys
import time

import confluent_kafka

ADDRESS, TOPIC = sys.argv[1:3]
RECORDS, SESSION_MS = map(int, sys.argv[3:5])
# As docs/topics.md has them: the embedded broker lets a join wait for half of the session.
SETTINGS = {
    "bootstrap.servers": ADDRESS,
    "group.id": f"{TOPIC}-reader",
    "auto.offset.reset": "earliest",
    "session.timeout.ms": SESSION_MS,
    "heartbeat.interval.ms": 500,
}


def read(consumer):
    """Seconds to the first record, once all have come."""
    began, first, read_so_far = time.monotonic(), 0.0, 0
    while read_so_far < RECORDS:
        assert time.monotonic() - began < 60, f"{read_so_far} of {RECORDS} records"
        message = consumer.poll(0.2)
        if message is None:
            continue
        assert message.error() is None, message.error()
        first = first or time.monotonic() - began
        read_so_far += 1
    consumer.close()
    return first


if __name__ == "__main__":
    grouped = confluent_kafka.Consumer(SETTINGS)
    grouped.subscribe([TOPIC])
    joined = read(grouped)
    assert joined < 15, f"a new group waits {joined:.1f} s, as without a shorter session"
    alone = confluent_kafka.Consumer(SETTINGS)
    partitions = alone.list_topics(TOPIC, timeout=30).topics[TOPIC].partitions
    start = confluent_kafka.OFFSET_BEGINNING
    alone.assign([confluent_kafka.TopicPartition(TOPIC, number, start) for number in partitions])
    print(
        f"librdkafka {confluent_kafka.libversion()[0]}: first record of a new group after"
        f" {joined:.1f} s, without a group after {read(alone):.1f} s"
    )
