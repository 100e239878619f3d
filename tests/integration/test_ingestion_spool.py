"""A separate process of ingestion with a spool, while the broker and the process are killed."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from slipstream.broker.consumer import Consumer
from slipstream.broker.records import Message
from slipstream.broker.topics import ensure_topics
from slipstream.chassis.settings import KafkaSettings, RedisSettings
from slipstream.contracts.topics import INTERACTIONS
from slipstream_cli.local.processes import Child, free_port
from slipstream_cli.local.readiness import is_ready
from tests.conftest import OwnBroker
from tests.integration.test_ingestion import AUTH, track
from tests.integration.test_ingestion_admission import until

Start = Callable[[KafkaSettings], Child]


@pytest.fixture
def start(redis_settings: RedisSettings, namespace: str, tmp_path: Path) -> Iterator[Start]:
    """Starts ingestion with a spool, at the same port and on the same folder each time."""
    port = free_port()
    children: list[Child] = []

    def run(kafka: KafkaSettings) -> Child:
        environment = os.environ | {
            "SLIPSTREAM_NAMESPACE": namespace,
            "SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "SLIPSTREAM_KAFKA__DELIVERY_TIMEOUT_MS": "1500",
            "SLIPSTREAM_REDIS__URL": redis_settings.url.get_secret_value(),
            "SLIPSTREAM_HTTP__PORT": str(port),
            "SLIPSTREAM_HTTP__SHUTDOWN_GRACE_S": "5",
            "SLIPSTREAM_INGESTION__WRITE_KEYS": "shop:s3cret",
            "SLIPSTREAM_INGESTION__SPOOL_DIR": str(tmp_path / "spool"),
        }
        command = [sys.executable, "-m", "services", "ingestion"]
        children.append(
            Child("ingestion", port, command, is_ready, environment=environment, grace_s=60.0)
        )
        return children[-1].start(timeout_s=60)

    yield run
    for child in children:
        child.kill()


def send(child: Child, user: str, message_id: str) -> int:
    answer = httpx.post(
        f"http://{child.address}/v1/track", json=track(user, "a", message_id), auth=AUTH, timeout=30
    )
    return answer.status_code


def spooled_bytes(child: Child) -> float:
    lines = httpx.get(f"http://{child.address}/metrics", timeout=30).text.splitlines()
    return next(
        float(line.split()[1])
        for line in lines
        if line.startswith("slipstream_ingestion_spool_bytes ")
    )


def readiness(child: Child) -> tuple[int, list[str]]:
    """The status of its readiness, and what is down."""
    ready = httpx.get(f"http://{child.address}/health/ready", timeout=30)
    return ready.status_code, ready.json()["down"]


def everything(kafka: KafkaSettings, namespace: str) -> list[Message[Any]]:
    """All that is on the topic, which is not empty, with the copies. All is acknowledged before."""
    consumer = Consumer(kafka, namespace, [INTERACTIONS], None)
    messages: list[Message[Any]] = []
    deadline = time.monotonic() + 60
    try:
        while not messages or consumer.remaining() != 0:
            assert time.monotonic() < deadline, f"{len(messages)} messages came, and not all"
            messages += consumer.poll(0.2).messages
    finally:
        consumer.close()
    return messages


def unmarked(messages: list[Any]) -> list[str]:
    return [message.record.event_id for message in messages if not message.record.maybe_repeat]


def test_broker_that_is_killed_and_comes_back_gets_everything_in_order(
    own_broker: OwnBroker, start: Start, namespace: str
) -> None:
    kafka, server = own_broker()
    child = start(kafka)
    assert send(child, "ada", "before") == 200
    server.kill()
    sent = [f"m-{number}" for number in range(40)]
    assert [send(child, "ada", message_id) for message_id in sent] == [200] * 40
    # On a busy machine Redis, too, may be late for a check.
    until(lambda: readiness(child) == (200, ["kafka"]), "it is not ready without the broker alone")
    assert spooled_bytes(child) > 0
    assert send(child, "ada", "m-7") == 200, "a repeat of what is in the spool"
    server.start()
    ensure_topics(kafka, namespace)
    until(lambda: spooled_bytes(child) == 0, "the spool is not drained")
    assert send(child, "ada", "after") == 200
    until(lambda: spooled_bytes(child) == 0, "the last event is not drained")
    ids = [message.record.event_id for message in everything(kafka, namespace)]
    # "before" is there only if the broker kept it. The first event after it was under way when the
    # broker was killed, so it may be there twice, marked.
    assert [message_id for message_id in dict.fromkeys(ids) if message_id != "before"] == [
        *sent,
        "after",
    ]


@pytest.mark.servers("real")
def test_events_outlive_a_kill_of_ingestion_while_the_broker_is_away(
    own_broker: OwnBroker, start: Start, namespace: str
) -> None:
    kafka, server = own_broker()
    child = start(kafka)
    server.kill()
    answered: set[str] = set()

    def keep_sending(visitor: int) -> None:
        for number in range(10_000):
            try:
                if send(child, f"u-{visitor}", f"m-{visitor}-{number}") == 200:
                    answered.add(f"m-{visitor}-{number}")
            except httpx.HTTPError:
                return

    senders = [threading.Thread(target=keep_sending, args=(visitor,)) for visitor in range(4)]
    for sender in senders:
        sender.start()
    until(lambda: len(answered) > 60, "too few are answered")
    child.kill()
    for sender in senders:
        sender.join()
    # It starts without a broker, takes more, and delivers all once there is a broker.
    child = start(kafka)
    assert send(child, "u-0", "last") == 200
    server.start()
    ensure_topics(kafka, namespace)
    until(lambda: spooled_bytes(child) == 0, "the spool is not drained")
    messages = everything(kafka, namespace)
    ids = [message.record.event_id for message in messages]
    assert answered | {"last"} <= set(ids)
    assert len(set(unmarked(messages))) == len(unmarked(messages)), (
        "a copy that is not marked would count twice"
    )


def test_kill_while_it_drains_loses_nothing_and_marks_what_may_be_there(
    own_broker: OwnBroker, start: Start, namespace: str
) -> None:
    kafka, server = own_broker()
    child = start(kafka)
    server.kill()
    batches = [[track(f"u-{n % 7}", "a", f"m-{part}-{n}") for n in range(500)] for part in range(8)]
    with httpx.Client(base_url=f"http://{child.address}", auth=AUTH, timeout=30) as client:
        for batch in batches:
            assert client.post("/v1/batch", json={"batch": batch}).status_code == 200
    full = spooled_bytes(child)
    server.start()
    ensure_topics(kafka, namespace)
    until(lambda: spooled_bytes(child) < full, "nothing is drained")
    child.kill()
    child = start(kafka)
    until(lambda: spooled_bytes(child) == 0, "the rest is not drained")
    messages = everything(kafka, namespace)
    ids = [message.record.event_id for message in messages]
    assert {message["messageId"] for batch in batches for message in batch} <= set(ids)
    assert len(set(unmarked(messages))) == len(unmarked(messages))


@pytest.mark.servers("real")  # it takes ten seconds; a kill leaves the next start more to drain
def test_what_a_stop_does_not_drain_in_time_comes_with_the_next_start(
    own_broker: OwnBroker, start: Start, namespace: str
) -> None:
    kafka, server = own_broker()
    child = start(kafka)
    server.kill()
    assert [send(child, "ada", f"m-{number}") for number in range(5)] == [200] * 5
    server.start()
    ensure_topics(kafka, namespace)
    child.terminate()
    assert child.finish()
    left = start(kafka)
    until(lambda: spooled_bytes(left) == 0, "what was left is not drained")
    ids = {message.record.event_id for message in everything(kafka, namespace)}
    assert ids == {f"m-{number}" for number in range(5)}
