"""`make faults`: the long fault test, with a report."""

import json
import tempfile
import time
from pathlib import Path

import click

from services.standalone.plan import SERVICES
from services.standalone.processes import StartError
from tests.faults.run import Case, run
from tests.servers import chosen

#: So that there are runs to be interrupted.
TRAINING = {
    "SLIPSTREAM_TRAINING__NEW_EVENTS": "5000",
    "SLIPSTREAM_TRAINING__COOLDOWN_MINUTES": "0",
    "SLIPSTREAM_TRAINING__CHECK_SECONDS": "2",
}


@click.command()
@click.option("--seconds", type=float, default=150.0, show_default=True, help="How long events come and services are killed.")
@click.option("--kills", type=int, default=10, show_default=True, help="Kills of each service.")
@click.option("--rate", type=float, default=300.0, show_default=True, help="Events a second.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--redis", is_flag=True, help="Kill Redis (Valkey, on the embedded servers), once, instead of the services.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write JSON here.")
def main(seconds: float, kills: int, rate: float, seed: int, redis: bool, json_path: Path | None) -> None:
    """Send events to a stack of its own, kill services at random moments, and compare its stores with what was acknowledged.

    TEST_SERVERS=real has it on Apache Kafka, Redis and PostgreSQL instead of the embedded servers.
    """
    try:
        servers = chosen()
    except StartError as error:
        raise click.ClickException(str(error)) from error
    case = Case(seconds, 1 if redis else kills, ("redis",) if redis else SERVICES, rate, seed, TRAINING)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="slipstream-faults-") as directory:
        result = run(case, Path(directory), servers)
    click.echo(f"{'servers':<24} {servers.kind}: {servers.description}")
    click.echo(result.table())
    click.echo(f"{'all in all':<24} {time.monotonic() - start:.0f} s")
    if json_path:
        json_path.write_text(json.dumps(result.as_json(), indent=2) + "\n")
    if faults := result.faults:
        raise click.ClickException("not exact:\n" + "\n".join(faults))
    click.echo("Every acknowledged event is in Redis and in the lake exactly once.")


if __name__ == "__main__":
    main()
