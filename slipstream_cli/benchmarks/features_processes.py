"""Features processes on servers of their own, for benchmarks, and simulated visits for them.

Visits are some minutes long, on items of unequal demand, mostly views.
"""

import bisect
import itertools
import os
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import httpx

from slipstream.broker.producer import Producer
from slipstream.broker.topics import ensure_topics
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.events import Interaction
from slipstream.contracts.topics import INTERACTIONS
from slipstream_cli.benchmarks.load import answering
from slipstream_cli.benchmarks.measurements import BenchmarkError
from slipstream_cli.local import servers
from slipstream_cli.local.plan import Plan
from slipstream_cli.local.processes import Child, start_together


@contextmanager
def event_servers(plan: Plan) -> Iterator[dict[str, Child]]:
    """Run the plan's embedded broker and Valkey for the block; yield them by name."""
    started: dict[str, Child] = {}
    try:
        if "broker" in plan.ports:
            started["broker"] = servers.broker(plan.ports["broker"]).start()
        if "valkey" in plan.ports:
            started["valkey"] = servers.valkey(
                plan.ports["valkey"], plan.directory / "valkey"
            ).start()
        yield started
    finally:
        for server in reversed(started.values()):
            server.stop()


@contextmanager
def features_processes(plan: Plan, namespace: str, ports: Sequence[int]) -> Iterator[list[Child]]:
    """Run a features process on each port for the block; yield them."""
    command, alive = [sys.executable, "-m", "services", "features"], answering("/health/live")
    with ExitStack() as opened:
        children = []
        for port in ports:
            output = opened.enter_context((plan.directory / f"features-{port}.log").open("wb"))
            environment = {
                **os.environ,
                **plan.service_environment("features"),
                "SLIPSTREAM_NAMESPACE": namespace,
                "SLIPSTREAM_HTTP__PORT": str(port),
            }
            child = Child(
                f"features on {port}",
                port,
                command,
                alive,
                grace_s=15.0,
                environment=environment,
                output=output,
            )
            opened.callback(child.stop)
            children.append(child)
        start_together(children, 60)
        yield children


def produce(kafka: KafkaSettings, namespace: str, events: Sequence[Interaction]) -> None:
    """Put the events on the topic. Raises BenchmarkError where the broker lacks some."""
    ensure_topics(kafka, namespace)
    producer = Producer(kafka, namespace, linger_ms=20)
    try:
        for number, event in enumerate(events, 1):
            producer.send(INTERACTIONS, event.user_id, event)
            if not number % 5_000:
                producer.flush()
        producer.flush(60)
        if producer.failures:
            raise BenchmarkError(f"the broker did not take {producer.failures} of the events")
    finally:
        producer.close()


def status(url: str) -> dict[str, Any]:
    """What a features process says of itself. Raises BenchmarkError where it does not."""
    answer = httpx.get(f"{url}/v1/status", timeout=30)
    if answer.status_code != 200:
        raise BenchmarkError(f"features answered {answer.status_code}: {answer.text[:300]}")
    told: dict[str, Any] = answer.json()
    return told


TYPES: Final = ("view",) * 10 + ("click",) * 5 + ("cart",) * 2 + ("purchase",)
# Fewest and most events of a visit, and seconds from each event to the next.
_VISIT: Final = (1, 12)
_PAUSE_S: Final = (3, 120)


def visits(
    count: int, visitors: int, items: int, until_ms: int, hours: float = 24.0
) -> list[Interaction]:
    """Make events in order of time; the same for the same arguments.

    Args:
        count: Number of events.
        visitors: Number of visitors: v0, v1, … One that returns has several visits.
        items: Number of items: i0, i1, …, in demand by Zipf's law.
        until_ms: End of the time span, in ms since the epoch.
        hours: Its length.
    """
    chance = random.Random(11)
    demand = list(itertools.accumulate(1 / (rank + 1) for rank in range(items)))
    events: list[Interaction] = []
    for visit in itertools.count():
        visitor = visit if visit < visitors else chance.randrange(visitors)
        events += _visit(
            chance, f"v{visitor}", demand, until_ms - int(chance.random() * hours * 3_600_000)
        )
        if len(events) >= count:
            break
    events = events[:count]
    events.sort(key=lambda event: event.timestamp)
    return events


def _visit(
    chance: random.Random, visitor: str, demand: list[float], end_ms: int
) -> Iterator[Interaction]:
    when = end_ms
    for _ in range(chance.randint(*_VISIT)):
        when -= chance.randint(*_PAUSE_S) * 1_000
        yield Interaction(
            event_id=f"{chance.getrandbits(128):032x}",
            event_type=chance.choice(TYPES),
            user_id=visitor,
            item_id=f"i{bisect.bisect_left(demand, chance.random() * demand[-1])}",
            timestamp=when,
            received_at=when + 40,
            session_id=f"{visitor}-{end_ms}",
            source="shop",
            properties={"price": 19.99, "category": "shoes"},
        )
