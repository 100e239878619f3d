"""The loops of consumers: poll, handle, commit without end; or read once, up to the present end."""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import nullcontext
from typing import Final

from slipstream.broker.consumer import Consumer
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.broker.records import Batch, observe, traced
from slipstream.broker.watch import ConsumerWatch
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.topics import Topic

# After a batch of this many records, more are likely to wait.
_BACKLOG: Final = 1_000


def consume(
    consumer: Consumer,
    handle: Callable[[Batch], None],
    stop: threading.Event,
    watch: ConsumerWatch,
    *,
    poll_s: float = 0.5,
    rest_s: float = 0.0,
    at_end: Callable[[], None] | None = None,
    each_turn: Callable[[], None] = lambda: None,
) -> None:
    """Poll, handle and commit until `stop` is set; then leave the group.

    Effects must be idempotent: after a failure between handling and committing, a record is handled
    again. Handle each message in `carrying(message.request_id)`.

    Args:
        handle: Handles a batch. Its effects must be complete when it returns.
        poll_s: Longest wait for records, in seconds.
        rest_s: Pause after a batch in seconds, unless more records are likely to wait. Many small
            batches cost more than a few large ones.
        at_end: Called once, when all that the topics held at the start is handled.
        each_turn: Called after each poll, when its records are handled.

    Raises:
        BrokerUnavailableError: The broker is unavailable, or the consumer does not read.
    """
    watch.begin(consumer)
    try:
        ends = consumer.ends() if at_end is not None else {}
        while not stop.is_set():
            batch = consumer.poll(poll_s)
            if batch:
                # What was there at the start is read at each start, and was traced when it came.
                with nullcontext() if at_end is not None else traced(batch, watch.metrics):
                    handle(batch)
                    consumer.commit(batch.next_offsets)
                observe(batch, watch.metrics)
            if at_end is not None and consumer.has_reached(ends):
                at_end()
                at_end = None
            each_turn()
            watch.update()
            if batch and len(batch.messages) < _BACKLOG:
                stop.wait(rest_s)
    finally:
        consumer.close()


def read_to_end(
    settings: KafkaSettings, namespace: str, topic: Topic, patience_s: float = 120.0
) -> Generator[Batch, None, None]:
    """The records of a topic up to its present end, in the order of each partition.

    Raises:
        BrokerUnavailableError: The broker does not answer, or sends nothing for `patience_s`.
    """
    consumer = Consumer(settings, namespace, [topic], group=None)
    deadline = time.monotonic() + patience_s
    try:
        ends = consumer.ends()
        # The embedded broker tells too low an end until a client has read there.
        while not (consumer.has_reached(ends) and consumer.remaining() == 0):
            if time.monotonic() > deadline:
                raise BrokerUnavailableError(
                    f"the broker at {settings.bootstrap_servers} does not send {topic.name}"
                )
            if batch := consumer.poll(0.5):
                deadline = time.monotonic() + patience_s
                yield batch
    finally:
        consumer.close()
