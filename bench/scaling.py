"""Benchmark of several features processes at once: the processor time of an event, part by part.

Processes on a machine of a few cores do not add up. Processor time does: the online store has one
thread for commands, and the time of an event on it bounds all processes together.
"""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from bench.features import (
    event_servers,
    features_processes,
    produce,
    status,
    visits,
)
from bench.measurements import BenchmarkError, Measurement
from slipstream.contracts.topics import INTERACTIONS
from slipstream_cli.local.plan import Plan
from slipstream_cli.local.processes import Child, free_port
from slipstream_cli.local.terminal import Terminal

PROCESSES: Final = (1, 2, 4)
EVENTS: Final = 200_000
VISITORS: Final = 20_000
ITEMS: Final = 5_000
_PATIENCE_S: Final = 300.0
_POLL_S: Final = 0.5
_POLL_AT_FIRST_S: Final = 0.02


class Spent(NamedTuple):
    """Processor seconds of the parts since their start."""

    features: float
    valkey: float
    broker: float


def run(
    plan: Plan,
    terminal: Terminal,
    *,
    processes: Sequence[int] = PROCESSES,
    events: int = EVENTS,
) -> list[Measurement]:
    """Run the benchmark on the plan's embedded servers. Needs Linux, whose /proc tells the times.

    Args:
        processes: Numbers of features processes, one after the other.

    Raises:
        BenchmarkError: The plan's servers run elsewhere, or events were not counted in time.
    """
    if not {"broker", "valkey"} <= plan.ports.keys():
        raise BenchmarkError("scaling is measured on the embedded servers")
    # An embedded topic has three partitions, and a process without one never catches up.
    kafka = plan.kafka.model_copy(update={"max_partitions": INTERACTIONS.partitions})
    rows = []
    with event_servers(plan) as servers:
        for number in processes:
            namespace = f"bench-{number}"
            terminal.progress(f"putting {events:,} events on the topic")
            produce(kafka, namespace, visits(events, VISITORS, ITEMS, int(time.time() * 1000)))
            terminal.progress(f"measuring {number} features")
            with features_processes(
                plan, namespace, [free_port() for _ in range(number)]
            ) as running:
                rows.append(_measured(running, servers, events))
    terminal.progress("")
    return rows


def _measured(running: Sequence[Child], servers: Mapping[str, Child], events: int) -> Measurement:
    """Measure from the first applied events until all are in Redis and the lake."""
    urls = [f"http://{child.address}" for child in running]
    first: tuple[float, int, Spent] | None = None
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        told = [status(url) for url in urls]
        applied, now = sum(each["applied"] for each in told), time.monotonic()
        if first is None and applied:
            first = now, applied, _spent(running, servers)
        if applied >= events and all(each["caught_up"] for each in told):
            break
        if now > deadline:
            behind = [each for each in told if not each["caught_up"]]
            raise BenchmarkError(
                f"{applied} of {events} events were applied in {_PATIENCE_S:g} s; not caught up:"
                f" {behind}"
            )
        time.sleep(_POLL_S if first else _POLL_AT_FIRST_S)
    if first is None or first[1] > events // 2:
        raise BenchmarkError("features was done before it could be measured; use more events")
    count = events - first[1]
    of_each = [
        (after - before) / count
        for before, after in zip(first[2], _spent(running, servers), strict=True)
    ]
    by_features, by_valkey, by_broker = (1e6 * seconds for seconds in of_each)
    rate, ceiling = count / (now - first[0]), 1 / of_each[1]
    return Measurement(
        name=f"{len(running)} features",
        value=rate,
        unit="events/s",
        ceiling=ceiling,
        ratio=rate / ceiling,
        note=f"processor time of an event: features {by_features:.0f} us, Valkey"
        f" {by_valkey:.1f} us, broker {by_broker:.0f} us; ceiling: what one thread of Valkey"
        " carries",
    )


def _spent(running: Sequence[Child], servers: Mapping[str, Child]) -> Spent:
    return Spent(
        sum(processor_s(child) for child in running),
        processor_s(servers["valkey"]),
        processor_s(servers["broker"]),
    )


def processor_s(child: Child) -> float:
    """Seconds of user and system time of a process, `proc_pid_stat(5)`."""
    if child.process is None:
        raise BenchmarkError(f"{child.name} does not run")
    fields = Path(f"/proc/{child.process.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
