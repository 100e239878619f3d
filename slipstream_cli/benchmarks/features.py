"""Benchmark of one features process: events/s into Redis and lake, reads beside Feast, memory.

It runs on temporary servers, without the other services. The events are on the topic before the
process starts. The rate counts from its first batch until all events are in both stores, where it
is checked that each counted exactly once. The ceiling is a bare kafka-python consumer that reads
the same records and drops them.
"""

import time
from pathlib import Path
from typing import Final

from slipstream.chassis.settings import RedisSettings
from slipstream.contracts.topics import INTERACTIONS
from slipstream.stores.online import OnlineStore
from slipstream_cli.benchmarks import feature_reads, state_sizes
from slipstream_cli.benchmarks.ceiling import raw_consumer_rate
from slipstream_cli.benchmarks.features_processes import (
    event_servers,
    features_processes,
    produce,
    status,
)
from slipstream_cli.benchmarks.load import in_own_process
from slipstream_cli.benchmarks.measurements import BenchmarkError, Measurement
from slipstream_cli.benchmarks.traffic import visits
from slipstream_cli.local.plan import EXTERNAL, Plan
from slipstream_cli.local.terminal import Terminal

NAMESPACE: Final = "bench"
EVENTS: Final = 200_000
VISITORS: Final = 20_000
ITEMS: Final = 5_000
_PATIENCE_S: Final = 300.0
# Each poll costs the service time (it counts the lake's rows), so polls are frequent only at the
# end.
_POLL_S: Final = 1.0
_POLL_AT_THE_END_S: Final = 0.2


def run(
    plan: Plan,
    feast_directory: Path,
    terminal: Terminal,
    *,
    events: int = EVENTS,
    seconds: float = 3.0,
    rounds: int = 3,
) -> list[Measurement]:
    """Run the benchmark.

    Args:
        plan: Ports and folders of the servers and of the features process.
        feast_directory: Folder that Feast is installed into at the first use. Where that fails,
            Feast's row is left out.
        terminal: Shows progress.
        events: Number of events.
        seconds: Duration of each round of reads.
        rounds: Rounds of reads.
    """
    kafka = plan.kafka
    redis = RedisSettings(url=plan.environment[EXTERNAL["valkey"]], timeout_s=10)
    with event_servers(plan):
        terminal.progress(f"putting {events:,} events on the topic")
        produce(kafka, NAMESPACE, visits(events, VISITORS, ITEMS, int(time.time() * 1000)))
        ceiling = in_own_process(raw_consumer_rate, kafka, NAMESPACE, INTERACTIONS, 4_000)
        terminal.progress("measuring features")
        with features_processes(plan, NAMESPACE, [plan.ports["features"]]) as (features,):
            url = f"http://{features.address}"
            rows = [_stream(url, events, ceiling)]
            _check_counted_once(url, redis, events)
            address, repository = plan.environment[EXTERNAL["valkey"]], plan.directory / "feast"
            rows += feature_reads.run(
                url, address, feast_directory, repository, terminal, seconds=seconds, rounds=rounds
            )
        terminal.progress("measuring states in Redis")
        rows += state_sizes.run(redis, f"{NAMESPACE}-weight")
        terminal.progress("")
    return rows


def _stream(url: str, events: int, ceiling: float) -> Measurement:
    """Measure from the first applied batch until everything is in both stores."""
    first: tuple[float, int] | None = None
    deadline = time.perf_counter() + _PATIENCE_S
    while True:
        told = status(url)
        now = time.perf_counter()
        if first is None and told["applied"]:
            first = now, told["applied"]
        if told["caught_up"] and told["applied"] >= events:
            break
        if now > deadline:
            raise BenchmarkError(
                f"features applied {told['applied']} of {events} events in {_PATIENCE_S:g} s"
            )
        time.sleep(_POLL_S if told["applied"] < 0.9 * events else _POLL_AT_THE_END_S)
    if first is None or first[1] > events // 2:
        raise BenchmarkError("features was done before it could be measured; use more events")
    rate = (events - first[1]) / (now - first[0])
    return Measurement(
        name="broker to Redis and lake",
        value=rate,
        unit="events/s",
        ceiling=ceiling,
        ratio=rate / ceiling,
        note=f"one process, {events:,} events of {VISITORS:,} visitors on {ITEMS:,} items, the last"
        " lake append included; each counted exactly once in both, checked; ceiling: a bare"
        " kafka-python consumer that drops the same records",
    )


def _check_counted_once(url: str, redis: RedisSettings, events: int) -> None:
    rows = status(url)["lake"]["interactions"]
    store = OnlineStore(redis, NAMESPACE)
    ids = [f"v{number}" for number in range(VISITORS)]
    of_visitors = sum(sum(state.counts.values()) for state in map(store.visitor, ids) if state)
    of_items = sum(
        sum(state.counts.values())
        for state in store.items([f"i{number}" for number in range(ITEMS)])
        if state
    )
    store.close()
    if not rows == of_visitors == of_items == events:
        raise BenchmarkError(
            f"of {events} events, {rows} are in the lake, {of_visitors} in visitors' states,"
            f" {of_items} in items' states"
        )
