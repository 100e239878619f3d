"""`make test-compose`, with a report."""

import tempfile
import time
from pathlib import Path

import click

from slipstream.datasets.simulator import Simulation
from tests.compose.project import ComposeError, from_nothing
from tests.compose.scenario import run


@click.command()
@click.option(
    "--events",
    type=int,
    default=45_000,
    show_default=True,
    help="Of the history that is sent first.",
)
@click.option("--visitors", type=int, default=4_000, show_default=True)
@click.option("--items", type=int, default=800, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option(
    "--keep",
    is_flag=True,
    help="Leave the containers running (docker compose -p slipstream-test down -v ends them).",
)
def main(events: int, visitors: int, items: int, seed: int, keep: bool) -> None:
    """Build and start docker-compose.yml from nothing, send a history, train and promote a model,
    ask it, crash each container once, and compare what is kept with what was accepted.

    Needs a Docker engine, Docker Compose 2.24 or newer, the ports 8001 to 8005, and a package
    index. It runs under a project name of its own, so that the volumes of whoever uses the file
    stay as they are.
    """
    start = time.monotonic()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="slipstream-compose-") as folder,
            from_nothing(keep=keep) as project,
        ):
            result = run(project, Path(folder), Simulation(visitors, items, events, seed))
    except ComposeError as error:
        raise click.ClickException(str(error)) from error
    click.echo("\n".join(result.lines()))
    click.echo(f"{'all in all':<32} {time.monotonic() - start:.0f} s")
    if faults := list(result.findings.lines()):
        raise click.ClickException("not exact:\n" + "\n".join(faults))
    click.echo("Every accepted event is in the lake exactly once, and counted once in Redis.")


if __name__ == "__main__":
    main()
