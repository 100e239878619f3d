"""`make faults`: the long fault test, with a report."""

import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from slipstream.contracts.services import SERVICES
from slipstream_cli.local.processes import StartError
from tests.e2e.stack import START_LIMIT_S
from tests.faults.run import BROKER, PATIENCE_S, Case, run
from tests.servers import VARIABLE, Embedded, Real, chosen

# So that there are runs to be interrupted.
TRAINING = {
    "SLIPSTREAM_TRAINING__NEW_EVENTS": "5000",
    "SLIPSTREAM_TRAINING__COOLDOWN_MINUTES": "0",
    "SLIPSTREAM_TRAINING__CHECK_SECONDS": "2",
}


@click.command()
@click.option(
    "--seconds",
    type=float,
    default=150.0,
    show_default=True,
    help="How long events come and services are killed.",
)
@click.option(
    "--kills",
    type=click.IntRange(1),
    help="Kills of each service (10), of a broker (3), of Redis (1).",
)
@click.option("--rate", type=float, default=300.0, show_default=True, help="Events a second.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option(
    "--servers",
    type=click.Choice([Embedded.kind, Real.kind]),
    help="Servers of the stack: embedded, or real (Apache Kafka, Redis, PostgreSQL); "
    f"by default as {VARIABLE} says, else embedded.",
)
@click.option(
    "--redis",
    is_flag=True,
    help="Kill Redis (Valkey, on the embedded servers) instead of the services.",
)
@click.option(
    "--broker",
    is_flag=True,
    help="Kill the broker instead; of a cluster, one that leads partitions, each in turn.",
)
@click.option(
    "--brokers",
    type=click.IntRange(1, 9),
    default=1,
    show_default=True,
    help="The brokers of the cluster.",
)
@click.option(
    "--pause",
    "pauses",
    type=click.FloatRange(min=0),
    multiple=True,
    default=(0.0,),
    show_default=True,
    help="Seconds until what was killed may start again; of several, each kill takes one.",
)
@click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write JSON here."
)
def main(
    seconds: float,
    kills: int | None,
    rate: float,
    seed: int,
    servers: str | None,
    redis: bool,
    broker: bool,
    brokers: int,
    pauses: tuple[float, ...],
    json_path: Path | None,
) -> None:
    """Send events to a stack of its own, kill services at random moments, and compare its stores
    with what was acknowledged.

    \b
    Example:  make faults FAULTS_ARGS="--servers real --brokers 3 --broker"
    """
    if redis and broker:
        raise click.UsageError("--redis and --broker are two tests; run one after the other")
    try:
        kind = chosen({**os.environ, VARIABLE: servers} if servers else os.environ)
        told = kind.versions
    except StartError as error:
        raise click.ClickException(str(error)) from error
    if kind.kind == Embedded.kind and (broker or brokers > 1):
        raise click.UsageError(
            "the embedded broker runs alone and keeps its records in memory: "
            "killed, it forgets what it acknowledged; "
            "take --servers real"
        )
    killed, times = (
        (("redis",), 1) if redis else ((BROKER,), 3) if broker else (tuple(SERVICES), 10)
    )
    case = Case(seconds, kills or times, killed, rate, seed, TRAINING, brokers, pauses)
    click.echo(f"on {told}", err=True)
    start = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="slipstream-faults-") as directory,
        limited(_limit_s(case)),
    ):
        result = run(case, Path(directory), kind)
    click.echo(result.table())
    click.echo(f"{'all in all':<24} {time.monotonic() - start:.0f} s")
    if json_path:
        json_path.write_text(json.dumps(result.as_json(), indent=2) + "\n")
    if faults := result.faults:
        raise click.ClickException("not exact:\n" + "\n".join(faults))
    click.echo("Every acknowledged event is in Redis and in the lake exactly once.")


def _limit_s(case: Case) -> float:
    """The start, twice the load's time (kills may be late), and each wait for what must follow."""
    return START_LIMIT_S + 2 * case.seconds + 5 * PATIENCE_S


@contextmanager
def limited(limit_s: float) -> Iterator[None]:
    """Raise in the block, which then stops all that it started, when it takes longer."""

    def too_long(number: int, frame: FrameType | None) -> None:
        raise click.ClickException(f"not done after {limit_s:.0f} s")

    signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    main()
