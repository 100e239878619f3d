"""`make restarts`: the long restart test, with a report."""

import tempfile
import time
from pathlib import Path

import click

from tests.restarts.run import NAMES, Case, run
from tests.servers import chosen


@click.command()
@click.option(
    "--plain",
    type=int,
    default=30,
    show_default=True,
    help="Restarts of each service, half at once, half later.",
)
@click.option(
    "--held",
    type=int,
    default=6,
    show_default=True,
    help="Restarts more with late answers to SyncGroup.",
)
@click.option(
    "--instance-ids", is_flag=True, help="Make the services static members of their groups."
)
def main(plain: int, held: int, instance_ids: bool) -> None:
    """Kill each service that reads from the broker, start it again, and wait until it has read a
    new record.

    The servers are those that TEST_SERVERS names: embedded, or real.
    """
    servers = chosen()
    click.echo(f"{plain + held} restarts of each of {', '.join(NAMES)}, on {servers.versions}")
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="slipstream-restarts-") as directory:
        result = run(Case(plain, held, instance_ids), Path(directory), servers, click.echo)
    click.echo(result.table())
    click.echo(f"{'all in all':<12} {time.monotonic() - start:.0f} s")
    if faults := result.faults:
        raise click.ClickException("\n".join(faults))
    click.echo("Every service read again after every restart.")


if __name__ == "__main__":
    main()
