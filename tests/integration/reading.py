"""Reading of a topic until enough records came, for tests."""

import time
from collections.abc import Callable

from slipstream.broker.batch import Batch
from slipstream.broker.consumer import Consumer
from slipstream.broker.watch import ConsumerWatch
from slipstream.chassis.metrics import Metrics


def read_until(
    consumer: Consumer, enough: Callable[[list[Batch]], bool], limit_s: float = 60.0
) -> list[Batch]:
    batches: list[Batch] = []
    watch = ConsumerWatch(Metrics("test"))  # as every loop has one
    watch.begin(consumer)
    deadline = time.monotonic() + limit_s
    while not enough(batches):
        watch.update()
        assert time.monotonic() < deadline, (
            f"only {sum(len(b.messages) for b in batches)} messages came"
        )
        if batch := consumer.poll(0.2):
            batches.append(batch)
    return batches


def count(batches: list[Batch]) -> int:
    return sum(len(batch.messages) for batch in batches)
