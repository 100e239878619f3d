"""Reading of a topic until enough records came, and what a consumer is asked meanwhile."""

import time
from collections.abc import Callable

from slipstream.broker.consumer import Consumer
from slipstream.broker.records import Batch
from slipstream.broker.standing import Standing
from slipstream.broker.watch import ConsumerWatch
from slipstream.chassis.metrics import Metrics
from slipstream.chassis.settings import KafkaSettings


def patient(settings: KafkaSettings) -> KafkaSettings:
    """These settings with a session that a member outlives which a busy machine stops for seconds.
    A group's first join takes half of it on the embedded broker.
    """
    return settings.model_copy(update={"session_timeout_ms": 6_000})


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


def told_standing(consumer: Consumer, limit_s: float = 60.0) -> Standing:
    """The consumer's standing with its lag. A broker that is slow to answer is asked again."""
    deadline = time.monotonic() + limit_s
    while (standing := consumer.standing()) is None or standing.lag is None:
        assert time.monotonic() < deadline, f"the broker tells no lag: {standing}"
        time.sleep(0.1)
    return standing
