"""Runs of a benchmark by name, on a running stack or on a temporary one."""

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

# Number of items that the benchmarks' visitors click on.
POPULAR = 100


@dataclass(frozen=True)
class Target:
    """A stack to be measured.

    Attributes:
        urls: The services' URLs by name.
        write_key: A key that ingestion accepts.
        kafka: The broker.
        namespace: The namespace of topics and keys.
        token: The services' API token, where they want one.
        items: Item ids to click on; empty: the trending ones.
    """

    urls: dict[str, str]
    write_key: str
    kafka: KafkaSettings
    namespace: str
    token: str = ""
    items: Sequence[str] = ()


def prepare(plan: Plan, terminal: Terminal, start: Callable[[], None]) -> Target:
    """Start a temporary stack with MovieLens' events, and a model in service."""
    files = Demo(plan, terminal).prepare(start)
    counted = Counter(pq.read_table(files.interactions, columns=["item_id"])["item_id"].to_pylist())
    items = [item_id for item_id, _ in counted.most_common(POPULAR)]
    return target_of(
        plan.description, items, plan.environment.get("SLIPSTREAM_HTTP__API_TOKEN", "")
    )


def target_of(description: dict[str, str], items: Sequence[str] = (), token: str = "") -> Target:
    """Make a target of a `Plan.description`, which leaves the API token out."""
    kafka = KafkaSettings(bootstrap_servers=description["kafka"])
    return Target(
        description, description["write_key"], kafka, description["namespace"], token, items
    )


def measure(name: str, target: Target) -> list[Measurement]:
    """Run the benchmark `name` on a running stack."""
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
    """Run the benchmark `name` on a temporary stack.

    Args:
        name: The benchmark.
        plan: The temporary stack.
        terminal: Shows progress.
        start: Starts the whole stack. Features and ingestion are measured without it: other
            services would take time from them.
        data_dir: Parent of the folder that Feast is installed into.
    """
    if name == "features":
        from slipstream_cli.benchmarks import features

        return features.run(plan, data_dir / "feast", terminal)
    if name == "ingestion":
        from slipstream_cli.benchmarks import ingestion

        return ingestion.run_alone(plan)
    return measure(name, prepare(plan, terminal, start))
