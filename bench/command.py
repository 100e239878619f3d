"""`slipstream bench`: measure a part of the platform and its ceiling in the same run."""

import os
import tempfile
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from slipstream_cli.local.plan import EXTERNAL
from slipstream_cli.local.processes import StartError
from slipstream_cli.options import data_dir_option, json_out

if TYPE_CHECKING:
    from bench.measurements import Measurement
    from bench.runner import ServedModel, Target
    from bench.serving import ServingLoad
    from slipstream_cli.local.plan import Plan

# Benchmarks without a SQL database.
_WITHOUT_SQL: Final = ("ingestion", "features", "scaling")
_WITHOUT_SERVERS: Final = ("catalogue", "training", "monitoring")


@click.command(short_help="Compare a part's speed with its ceiling.")
@click.argument(
    "name",
    type=click.Choice(
        [
            "ingestion",
            "features",
            "scaling",
            "freshness",
            "shop",
            "serving",
            "replay",
            "catalogue",
            "training",
            "monitoring",
        ]
    ),
)
@click.option(
    "--running",
    is_flag=True,
    help="Measure the stack that runs on the data folder. The benchmark's events stay in it."
    " Default: a temporary stack.",
)
@click.option(
    "--servers",
    type=click.Choice(["embedded", "real"]),
    default="embedded",
    show_default=True,
    help="Servers of the temporary stack; real: Apache Kafka (from KAFKA_HOME), Redis and"
    " PostgreSQL, as installed here.",
)
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with interactions.parquet and items.parquet that the temporary stack of serving or"
    " replay is filled with. Default: MovieLens-100K.",
)
@click.option(
    "--profile",
    type=click.Choice(["fast", "best"]),
    help="Training effort for the model of serving, or of the fits of training. Default: fast.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Processes of serving in the temporary stack. Default: 1.",
)
@click.option(
    "--rate",
    type=click.FloatRange(1),
    help="Requests/s at which serving's latency is measured. Default: half of what it takes.",
)
@click.option(
    "--swaps",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Models that serving takes into service during full load, one every four seconds. The"
    " temporary stack trains three versions for it.",
)
@click.option(
    "--rules",
    is_flag=True,
    help="Also measure serving with ten rules, a filter and diversity, against the same requests"
    " without.",
)
@click.option(
    "--profile-time",
    is_flag=True,
    help="Also measure where serving's time goes, one request after another.",
)
@click.option(
    "--traced",
    is_flag=True,
    help="Have the services of the temporary stack of ingestion or serving trace requests, 1 % of"
    " them or SLIPSTREAM_TRACING__SHARE, and export the spans to a receiver here.",
)
@click.option(
    "--items",
    type=click.IntRange(1_000),
    multiple=True,
    help="Items of a simulated catalogue; may be given several times. Default: 10,000, 100,000 and"
    " 1,000,000; for training 20,000.",
)
@click.option(
    "--events",
    type=click.IntRange(10_000),
    multiple=True,
    help="Events of a simulated shop to train on; may be given several times. Default: 100,000 and"
    " 1,000,000.",
)
@data_dir_option(
    "Folder of the running stack for --running, of the installed Feast, and of simulated models."
)
@json_out
def bench(
    name: str,
    running: bool,
    servers: str,
    data: Path | None,
    profile: str | None,
    workers: int | None,
    rate: float | None,
    swaps: int,
    rules: bool,
    profile_time: bool,
    traced: bool,
    items: tuple[int, ...],
    events: tuple[int, ...],
    data_dir: Path,
    json_path: Path | None,
) -> None:
    """Measure a part of the platform and its ceiling on this machine, in the same run.

    \b
    ingestion   batches against a bare Kafka producer, single events against an empty route
    serving     recommendations against an empty route
    features    events against a bare Kafka consumer, reads against Feast's feature server,
                bytes in Redis against a kilobyte
    scaling     one, two and four features processes: an event's processor time, part by part
    freshness   time from a click to a changed list, against one record through the broker
                and one empty answer
    shop        time from a click in the console's shop, in Chromium, to a changed row, among 50
                simulated shoppers, against freshness among the same
    replay      a thousand answers made again across a swap of the model, a change of rules and
                changes of the catalogue: how many lists are identical
    catalogue   the stages in one thread, in simulated catalogues of several sizes, with and
                without a filter that keeps 0.1 %; recall and memory; without servers
    training    fits on simulated shops of several sizes: seconds by stage, memory, NDCG@10; the
                network's arithmetic against a matrix product; without servers
    monitoring  records of a lake counted as outcomes, against a bare scan: memory, disk, a shared
                id, a growing log, a month's report; without servers

    A temporary stack is started and stopped for it. For serving, freshness, shop and replay, it is
    filled with MovieLens-100K and trains a model, for replay two. Feast is installed once into the
    data folder, from a package index.

    \b
    Example:  slipstream bench freshness --json freshness.json
              slipstream bench ingestion --servers real
              slipstream bench shop
              slipstream bench serving --profile best --workers 2 --rate 2000
              slipstream bench ingestion --traced
              slipstream bench training --profile best --events 1000000 --items 100000
    """
    from bench import chromium, measurements, runner
    from bench.otlp_receiver import receiving
    from bench.serving import ServingLoad

    if name != "serving" and (workers or rate or swaps or rules or profile_time):
        raise click.UsageError(
            "--workers, --rate, --swaps, --rules and --profile-time are of the benchmark of serving"
        )
    if profile and name not in ("serving", "training"):
        raise click.UsageError("--profile is of the benchmarks of serving and training")
    if data and name not in ("serving", "replay"):
        raise click.UsageError(
            "other data are of the benchmarks of serving and replay; leave --data out"
        )
    if running and (data or profile or workers):
        raise click.UsageError(
            "a running stack has its model and its processes; leave --data, --profile and --workers"
            " out"
        )
    if traced and (running or name not in ("ingestion", "serving")):
        raise click.UsageError("--traced is of a temporary stack of ingestion or serving")
    if running and name in ("features", "scaling"):
        raise click.UsageError(f"{name} is measured on separate servers; leave --running out")
    if servers == "real" and name == "scaling":
        raise click.UsageError("scaling is measured on the embedded servers; leave --servers out")
    if running and servers == "real":
        raise click.UsageError("a running stack has its servers already; leave --servers out")
    if name in _WITHOUT_SERVERS and (running or servers == "real"):
        raise click.UsageError(f"{name} has no servers; leave --running and --servers out")
    if (items and name not in ("catalogue", "training")) or (
        events and name not in ("training", "monitoring")
    ):
        raise click.UsageError(
            "--items is of the benchmarks catalogue and training, --events of training and"
            " monitoring"
        )
    load = ServingLoad(rate, swaps, profile_time, rules)
    where = measurements.machine()
    try:
        if name == "shop":
            # A stack takes minutes to prepare.
            chromium.executable()
        if name == "catalogue":
            versions, rows = "none", _measure_catalogues(data_dir, items)
        elif name == "training":
            versions, rows = "none", _measure_training(data_dir, events, items, profile or "fast")
        elif name == "monitoring":
            versions, rows = "none", _measure_counting(events)
        elif running:
            target = _running_target(data_dir)
            versions = f"of the running stack: {target.kafka.bootstrap_servers}"
            rows = runner.measure(name, target, load)
        else:
            model = runner.ServedModel(data, profile or "fast", _versions_of(name, swaps))
            environment = {"SLIPSTREAM_TRAINING__NEW_EVENTS": "0", **os.environ}
            if name == "shop":
                environment["SLIPSTREAM_MONITORING__SHOP"] = "true"
            if workers:
                environment["SLIPSTREAM_SERVING__WORKERS"] = str(workers)
            with receiving() if traced else nullcontext() as receiver:
                if receiver is not None:
                    environment["SLIPSTREAM_TRACING__OTLP_URL"] = receiver.url
                versions, rows = _measure_temporary(
                    name, environment, servers == "real", data_dir, model, load
                )
            if receiver is not None:
                versions += f"; {len(receiver.spans):,} spans received"
    # BenchmarkError, DemoError and the errors of Kafka's client are RuntimeErrors.
    except (RuntimeError, StartError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"servers: {versions}\n{measurements.table(rows)}")
    if json_path:
        measurements.write_json(json_path, rows, versions, where)
        click.echo(f"Wrote {json_path}.")
    if name not in ("features", "scaling", *_WITHOUT_SERVERS):
        click.echo(
            "Next: measure on your data: slipstream up, slipstream replay,"
            f" slipstream bench {name} --running"
        )


def _versions_of(name: str, swaps: int) -> int:
    """Return the number of model versions that a temporary stack trains for a benchmark."""
    from bench.serving_swaps import VERSIONS

    return VERSIONS if swaps else 1 + (name == "replay")


def _measure_catalogues(data_dir: Path, items: tuple[int, ...]) -> "list[Measurement]":
    from bench import catalogue
    from slipstream_cli.local.terminal import Terminal

    sizes = sorted(items) or catalogue.SIZES
    return catalogue.run(data_dir / "simulated-models", sizes, tell=Terminal().progress)


def _measure_training(
    data_dir: Path, events: tuple[int, ...], items: tuple[int, ...], profile: str
) -> "list[Measurement]":
    from bench import training
    from slipstream_cli.local.terminal import Terminal

    sizes = sorted(events) or training.EVENTS, sorted(items) or training.ITEMS
    return training.run(data_dir / "simulated-shops", *sizes, profile, tell=Terminal().progress)


def _measure_counting(events: tuple[int, ...]) -> "list[Measurement]":
    from bench import monitoring
    from slipstream_cli.local.terminal import Terminal

    with tempfile.TemporaryDirectory(prefix="slipstream-bench-") as folder:
        sizes = sorted(events) or monitoring.EVENTS
        return monitoring.run(Path(folder), sizes, tell=Terminal().progress)


def _measure_temporary(
    name: str,
    environment: dict[str, str],
    real: bool,
    data_dir: Path,
    model: "ServedModel",
    load: "ServingLoad",
) -> tuple[str, "list[Measurement]"]:
    """Measure on a temporary stack.

    Args:
        real: Whether the servers are those installed here.
        data_dir: Parent of the folder that Feast is installed into.

    Returns:
        The names and versions of its servers, and the measurements.
    """
    from bench import installed_servers, runner
    from slipstream_cli.local.plan import make_plan
    from slipstream_cli.local.supervisor import ForegroundStack
    from slipstream_cli.local.terminal import Terminal

    terminal, sql = Terminal(), name not in _WITHOUT_SQL
    with ExitStack() as opened:
        if real:
            home = installed_servers.kafka_home(os.environ, sql=sql)
            versions = installed_servers.versions(home, sql=sql)
            terminal.progress(f"starting {versions}")
            environment |= opened.enter_context(installed_servers.running(home, sql=sql))
        directory = Path(
            opened.enter_context(tempfile.TemporaryDirectory(prefix="slipstream-bench-"))
        )
        plan = make_plan(directory, environment, any_ports=True)
        if not real:
            versions = _embedded_servers(plan, sql)
        stack = opened.enter_context(ForegroundStack(plan, terminal))
        return versions, runner.measure_temporary(
            name, plan, terminal, stack.start, data_dir, model=model, load=load
        )


def _embedded_servers(plan: "Plan", sql: bool) -> str:
    """Name the plan's servers: the embedded ones with versions, or those that settings name."""
    from slipstream_cli.local import servers

    environment = plan.environment
    names = [
        servers.broker_version()
        if "broker" in plan.ports
        else f"Kafka at {environment[EXTERNAL['broker']]}",
        servers.valkey_version()
        if "valkey" in plan.ports
        else f"Redis as {EXTERNAL['valkey']} says",
    ]
    database = environment["SLIPSTREAM_DATABASE__URL"].partition(":")[0]
    return ", ".join([*names, database] if sql else names)


def _running_target(directory: Path) -> "Target":
    from bench.runner import target_of
    from slipstream_cli.local.data_folder import running_stack

    running = running_stack(directory)
    if not running:
        raise click.ClickException(f"nothing runs on {directory}; start it with: slipstream up")
    return target_of(running, token=os.environ.get("SLIPSTREAM_HTTP__API_TOKEN", ""))
