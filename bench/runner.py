"""Runs of a benchmark by name, on a running stack or on a temporary one."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from bench.measurements import Measurement
from slipstream.chassis.settings import KafkaSettings
from slipstream.datasets.movielens import EventFiles
from slipstream_cli.demo.preparation import Preparation, movielens_files
from slipstream_cli.local.plan import Plan
from slipstream_cli.local.terminal import Terminal

if TYPE_CHECKING:
    from bench.serving import ServingLoad

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


@dataclass(frozen=True)
class ServedModel:
    """The model that a temporary stack serves.

    Attributes:
        data: Folder with interactions.parquet and items.parquet; None: MovieLens-100K.
        profile: Effort of training, `fast` or `best`.
        versions: Number of trained versions.
    """

    data: Path | None = None
    profile: str = "fast"
    versions: int = 1


def prepare(
    plan: Plan, terminal: Terminal, start: Callable[[], None], model: ServedModel
) -> Target:
    """Start a temporary stack with events, and a model that was trained on them in service."""

    def files() -> EventFiles:
        if model.data is None:
            return movielens_files(plan, terminal)
        return EventFiles(model.data / "interactions.parquet", model.data / "items.parquet")

    preparation = Preparation(plan, terminal, files, model.profile)
    events = preparation.run(start)
    for _ in range(1, model.versions):
        with preparation.explained():
            preparation.train("another version to swap to")
    counted = Counter(
        pq.read_table(events.interactions, columns=["item_id"])["item_id"].to_pylist()
    )
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


def measure(name: str, target: Target, load: "ServingLoad | None" = None) -> list[Measurement]:
    """Run the benchmark `name` on a running stack, with the given load where it is serving's."""
    urls, key = target.urls, target.write_key
    if name == "ingestion":
        from bench import ingestion

        return ingestion.run(urls["ingestion"], key, target.kafka, target.namespace)
    if name == "freshness":
        from bench import freshness

        return freshness.run(
            urls["ingestion"],
            urls["serving"],
            key,
            target.kafka,
            target.namespace,
            items=target.items,
            token=target.token,
        )
    if name == "shop":
        from bench import shop

        return shop.run(target)
    from bench import answer_replays, serving, serving_clicks

    visitors = serving.known_visitors(
        urls["serving"], urls["ingestion"], key, target.items, token=target.token
    )
    if name == "replay":
        return answer_replays.run(urls, key, visitors, token=target.token)
    return serving.run(
        urls["serving"],
        urls,
        serving_clicks.Clicks(urls["ingestion"], key, visitors),
        load or serving.ServingLoad(),
        token=target.token,
    )


def measure_temporary(
    name: str,
    plan: Plan,
    terminal: Terminal,
    start: Callable[[], None],
    data_dir: Path,
    *,
    model: ServedModel | None = None,
    load: "ServingLoad | None" = None,
) -> list[Measurement]:
    """Run the benchmark `name` on a temporary stack.

    Args:
        start: Starts the whole stack. Features and ingestion are measured without it: other
            services would take time from them.
        data_dir: Parent of the folder that Feast is installed into.
    """
    if name == "features":
        from bench import features

        return features.run(plan, data_dir / "feast", terminal)
    if name == "scaling":
        from bench import scaling

        return scaling.run(plan, terminal)
    if name == "ingestion":
        from bench import ingestion

        return ingestion.run_alone(plan)
    return measure(name, prepare(plan, terminal, start, model or ServedModel()), load)
