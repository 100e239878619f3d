"""Benchmark of ingestion against a bare producer and an empty route.

Batches: events/s through `POST /v1/batch` against messages/s of a bare kafka-python producer that
sends the same bytes to the same broker. Single events: requests/s of `POST /v1/track` against an
empty FastAPI route under the same server settings.

Each server, the producer and the load generator are separate processes. Ceilings and figures are
measured in turns, and the best round of each counts, since other work on the machine only slows
down. The service's counter must show that every event was accepted. Every event has a new id, and
ids are looked up as by default.

`run_alone` starts ingestion and its two servers only: a service that reads the topic would take
time from what is measured.

The stack takes the events for real ones: don't run this on a stack in use.
"""

import re
import sys
import time
import uuid
from collections.abc import Iterator

import httpx
import orjson

from bench.ceiling import (
    newest_messages,
    raw_producer_rate,
    running_empty_route,
    scratch_namespace,
)
from bench.load import Load, basic_auth, closed_loop, in_own_process, request
from bench.measurements import BenchmarkError, Measurement
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.topics import INTERACTIONS
from slipstream_cli.local import servers
from slipstream_cli.local.plan import Plan
from slipstream_cli.local.processes import Child
from slipstream_cli.local.readiness import is_ready

BATCH = 500
# Enough that no event is sent twice within a round; `_check_verdicts` would notice.
BODIES = 800
SINGLES = 80_000
VISITORS = 3_000
ITEMS = 2_000


def run_alone(plan: Plan) -> list[Measurement]:
    """Start a broker, Redis and ingestion, and measure the latter."""
    broker = servers.broker(plan.ports["broker"]) if "broker" in plan.ports else None
    valkey = (
        servers.valkey(plan.ports["valkey"], plan.directory / "valkey")
        if "valkey" in plan.ports
        else None
    )
    plan.directory.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "services", "ingestion"]
    with (plan.directory / "ingestion.log").open("wb") as log:
        service = Child(
            "ingestion", plan.ports["ingestion"], command, is_ready, grace_s=15.0,
            output=log.fileno(), environment=plan.service_environment("ingestion"),
        )  # fmt: skip
        children = [child for child in (broker, valkey, service) if child is not None]
        try:
            for child in children:
                child.start(timeout_s=60)
            namespace = plan.description["namespace"]
            return run(plan.urls["ingestion"], plan.write_key, plan.kafka, namespace)
        finally:
            for child in reversed(children):
                child.kill()


def run(
    url: str,
    write_key: str,
    kafka: KafkaSettings,
    namespace: str,
    *,
    seconds: float = 4.0,
    rounds: int = 4,
    connections: int = 64,
) -> list[Measurement]:
    """Measure an ingestion service. Takes about `4 * rounds * (seconds + 1)` seconds."""
    headers = basic_auth(write_key)
    batch_url, track_url = f"{url}/v1/batch", f"{url}/v1/track"
    first = list(_events(BATCH))
    _check_accepted(batch_url, first, headers)
    scratch = scratch_namespace(kafka, namespace)
    recorded = newest_messages(kafka, namespace, INTERACTIONS, 5 * BATCH)

    before = _verdicts(url)
    batched: list[Load] = []
    raw: list[float] = []
    single: list[Load] = []
    empty: list[Load] = []
    with running_empty_route() as empty_url:
        nothing = [request("POST", empty_url, orjson.dumps(first[0]))]
        for _ in range(rounds):
            batches = [
                request("POST", batch_url, orjson.dumps({"batch": part}), headers)
                for part in _parts(BODIES)
            ]
            singles = [
                request("POST", track_url, orjson.dumps(event), headers)
                for event in _events(SINGLES)
            ]
            raw.append(
                in_own_process(raw_producer_rate, kafka, scratch, INTERACTIONS, recorded, seconds)
            )
            batched.append(
                in_own_process(closed_loop, batch_url, batches, connections=4, seconds=seconds)
            )
            empty.append(
                in_own_process(
                    closed_loop, empty_url, nothing, connections=connections, seconds=seconds
                )
            )
            single.append(
                in_own_process(
                    closed_loop, track_url, singles, connections=connections, seconds=seconds
                )
            )
    for load in (*batched, *single, *empty):
        load.succeeded()
    _check_verdicts(
        before,
        _verdicts(url),
        sum(load.answered for load in batched) * BATCH + sum(load.answered for load in single),
    )
    return [
        _row(
            "batches of 500", "events/s",
            [load.rate * BATCH for load in batched], raw, batched,
            "ceiling: a bare kafka-python producer, same bytes, acks=all; ids looked up",
        ),
        _row(
            "single events", "requests/s",
            [load.rate for load in single], [load.rate for load in empty], single,
            f"ceiling: an empty FastAPI route, same server settings; {connections} connections;"
            " ids looked up",
        ),
    ]  # fmt: skip


def _row(
    name: str, unit: str, values: list[float], ceilings: list[float], loads: list[Load], note: str
) -> Measurement:
    value, ceiling = max(values), max(ceilings)
    best = max(loads, key=lambda load: load.rate)
    return Measurement(
        name=name,
        value=value,
        unit=unit,
        ceiling=ceiling,
        ratio=value / ceiling,
        **best.percentiles(),
        note=note,
    )


def _events(count: int) -> Iterator[dict[str, object]]:
    """Make views in the form that an SDK sends."""
    run_id = uuid.uuid4().hex[:12]
    now = int(time.time() * 1000)
    for number in range(count):
        yield {
            "type": "track",
            "event": "Product Viewed",
            "messageId": f"bench-{run_id}-{number}",
            "userId": f"bench-visitor-{number * 7919 % VISITORS}",
            "timestamp": now - count + number,
            "properties": {
                "product_id": f"bench-item-{number * 104_729 % ITEMS}",
                "price": 19.99,
                "category": "shoes",
            },
        }


def _parts(count: int) -> Iterator[list[dict[str, object]]]:
    """Make the events of `count` batches."""
    events = list(_events(BATCH * count))
    return (events[at : at + BATCH] for at in range(0, len(events), BATCH))


def _check_accepted(
    batch_url: str, events: list[dict[str, object]], headers: dict[str, str]
) -> None:
    answer = httpx.post(batch_url, json={"batch": events}, headers=headers, timeout=30)
    if answer.status_code != 200 or answer.json()["accepted"] != len(events):
        raise BenchmarkError(
            f"ingestion answered {answer.status_code} to a batch: {answer.text[:300]}"
        )


def _verdicts(url: str) -> dict[str, float]:
    """Read ingestion's counter of messages, by verdict."""
    samples = re.findall(
        r'slipstream_ingestion_events_total\{[^}]*verdict="(\w+)"\} (\S+)',
        httpx.get(f"{url}/metrics").text,
    )
    return {verdict: float(count) for verdict, count in samples}


def _check_verdicts(before: dict[str, float], after: dict[str, float], answered: int) -> None:
    added = {verdict: count - before.get(verdict, 0.0) for verdict, count in after.items()}
    rejected = {
        verdict: count for verdict, count in added.items() if count and verdict != "accepted"
    }
    if rejected or added.get("accepted", 0.0) < answered:
        raise BenchmarkError(f"{answered} events were answered, but the service counted {added}")
