"""Runs a benchmark by name against a stack, with what it needs to have beforehand."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from slipstream.chassis.settings import KafkaSettings
from slipstream_cli.benchmarks.measurements import Measurement
from slipstream_cli.demo.story import Demo
from slipstream_cli.local.plan import Plan
from slipstream_cli.local.terminal import Terminal

# Clicked on by the benchmarks' visitors.
POPULAR = 100


@dataclass(frozen=True)
class Target:
    """The stack that is measured. `token` is the services' API token, where they ask for one.
    Without `items`, what is trending there is clicked on.
    """

    urls: dict[str, str]
    write_key: str
    kafka: KafkaSettings
    namespace: str
    token: str = ""
    items: Sequence[str] = ()


def prepare(plan: Plan, terminal: Terminal, start: Callable[[], None]) -> Target:
    """Start a stack of the benchmark's own, with events and a model in service."""
    files = Demo(plan, terminal).prepare(start)
    counted = Counter(pq.read_table(files.interactions, columns=["item_id"])["item_id"].to_pylist())
    items = [item_id for item_id, _ in counted.most_common(POPULAR)]
    return target_of(
        plan.description, items, plan.environment.get("SLIPSTREAM_HTTP__API_TOKEN", "")
    )


def target_of(description: dict[str, str], items: Sequence[str] = (), token: str = "") -> Target:
    """The stack of which this is the `Plan.description`, which leaves the API token out."""
    kafka = KafkaSettings(bootstrap_servers=description["kafka"])
    return Target(
        description, description["write_key"], kafka, description["namespace"], token, items
    )


def measure(name: str, target: Target) -> list[Measurement]:
    """The rows of the benchmark called `name`."""
    urls, key = target.urls, target.write_key
    if name == "ingestion":
        from slipstream_cli.benchmarks import ingestion

        return ingestion.run(urls["ingestion"], key, target.kafka, target.namespace)
    if name == "freshness":
        from slipstream_cli.benchmarks import freshness

        return freshness.run(
            urls["ingestion"],
            urls["serving"],
            key,
            target.kafka,
            target.namespace,
            items=target.items,
            token=target.token,
        )
    from slipstream_cli.benchmarks import serving

    visitors = serving.known_visitors(
        urls["serving"], urls["ingestion"], key, target.items, token=target.token
    )
    return serving.run(urls["serving"], visitors, token=target.token)


def measure_temporary(
    name: str, plan: Plan, terminal: Terminal, start: Callable[[], None], data_dir: Path
) -> list[Measurement]:
    """The rows of the benchmark called `name`, on what it starts itself. Feast is kept in
    `data_dir` for the next time.
    """
    if (
        name == "features"
    ):  # one service and its servers: the others would take the time that is measured
        from slipstream_cli.benchmarks import features

        return features.run(plan, data_dir / "feast", terminal)
    if name == "ingestion":
        from slipstream_cli.benchmarks import ingestion

        return ingestion.run_alone(plan)
    return measure(name, prepare(plan, terminal, start))
