"""Features processes on servers of their own, for benchmarks, and events for them."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

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
