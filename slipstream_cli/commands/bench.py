"""`slipstream bench`: measure a part of the platform on this machine, and the ceiling in the same
run.
"""

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from slipstream_cli.local.plan import EXTERNAL
from slipstream_cli.local.processes import StartError
from slipstream_cli.options import data_dir_option, json_out

if TYPE_CHECKING:
    from slipstream_cli.benchmarks.measurements import Measurement
    from slipstream_cli.benchmarks.runner import Target
    from slipstream_cli.local.plan import Plan

# Those that no SQL takes part in.
_WITHOUT_SQL: Final = ("ingestion", "features")


@click.command()
@click.argument("name", type=click.Choice(["ingestion", "features", "freshness", "serving"]))
@click.option(
    "--running",
    is_flag=True,
    help="Measure the stack that runs on the data folder; it keeps the events of it.",
)
@click.option(
    "--servers",
    type=click.Choice(["embedded", "real"]),
    default="embedded",
    show_default=True,
    help="What its own stack stands on; real: Apache Kafka (from KAFKA_HOME), Redis and PostgreSQL, where they are installed.",
)
@data_dir_option("Where everything that outlives the processes is kept.")
@json_out
def bench(name: str, running: bool, servers: str, data_dir: Path, json_path: Path | None) -> None:
    """Measure on this machine, and against the ceiling measured in the same run.

    The ceiling of ingestion is a bare producer for batches, and a route that does nothing for
    single events; the latter is also serving's. Those of features are a bare consumer, Feast's own
    feature server (installed once into the data folder, where a package index can be reached) and a
    kilobyte of Redis. That of freshness is the least time that its way allows: a record from
    producer to consumer through the same broker, and one answer of serving that says nothing.

    A stack of its own is started in a temporary folder, and stopped afterwards; with films, ratings
    and a model in it where recommendations are measured.

    \b
    Example:  slipstream bench freshness --json freshness.json
              slipstream bench ingestion --servers real
    """
    from slipstream_cli.benchmarks import measurements, runner

    if running and name == "features":
        raise click.UsageError("features are measured on servers of their own; leave --running out")
    if running and servers == "real":
        raise click.UsageError("a running stack has its servers already; leave --servers out")
    where = measurements.machine()
    try:
        if running:
            target = _running_target(data_dir)
            told, rows = (
                f"of the running stack: {target.kafka.bootstrap_servers}",
                runner.measure(name, target),
            )
        else:
            told, rows = _measure_own(name, servers == "real", data_dir)
    except (RuntimeError, StartError) as error:  # how benchmarks say what went wrong
        raise click.ClickException(str(error)) from error
    click.echo(f"servers: {told}\n{measurements.table(rows)}")
    if json_path:
        measurements.write_json(json_path, rows, told, where)
        click.echo(f"Wrote {json_path}.")
    if name != "features":
        click.echo(
            "Next: the same on your data: slipstream up, slipstream replay, and this with --running."
        )


def _measure_own(name: str, real: bool, data_dir: Path) -> tuple[str, "list[Measurement]"]:
    """The servers of a stack of its own, with their versions, and the rows."""
    from slipstream_cli.benchmarks import runner
    from slipstream_cli.local import installed_servers
    from slipstream_cli.local.foreground import ForegroundStack
    from slipstream_cli.local.plan import make_plan
    from slipstream_cli.local.terminal import Terminal

    terminal, sql = Terminal(), name not in _WITHOUT_SQL
    environment = {"SLIPSTREAM_TRAINING__NEW_EVENTS": "0", **os.environ}
    with ExitStack() as opened:
        if real:
            home = installed_servers.kafka_home(os.environ, sql=sql)
            terminal.progress(f"starting {(told := installed_servers.versions(home, sql=sql))}")
            environment |= opened.enter_context(installed_servers.running(home, sql=sql))
        directory = Path(
            opened.enter_context(tempfile.TemporaryDirectory(prefix="slipstream-bench-"))
        )
        plan = make_plan(directory, environment, any_ports=True)
        if not real:
            told = _embedded_servers(plan, sql)
        stack = opened.enter_context(ForegroundStack(plan, terminal))
        return told, runner.measure_own(name, plan, terminal, stack.start, data_dir)


def _embedded_servers(plan: "Plan", sql: bool) -> str:
    """The embedded servers with their versions, and those that the environment names instead."""
    from slipstream_cli.local import servers

    environment = plan.environment
    told = [
        servers.broker_version()
        if "broker" in plan.ports
        else f"Kafka at {environment[EXTERNAL['broker']]}",
        servers.valkey_version()
        if "valkey" in plan.ports
        else f"Redis as {EXTERNAL['valkey']} says",
    ]
    database = environment["SLIPSTREAM_DATABASE__URL"].partition(":")[0]
    return ", ".join([*told, database] if sql else told)


def _running_target(directory: Path) -> "Target":
    from slipstream_cli.benchmarks.runner import target_of
    from slipstream_cli.local.data_folder import running_stack

    running = running_stack(directory)
    if not running:
        raise click.ClickException(f"nothing runs on {directory}; start it with: slipstream up")
    return target_of(running, token=os.environ.get("SLIPSTREAM_HTTP__API_TOKEN", ""))
