"""`make faults`: the long fault test, with a report."""

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from slipstream.contracts.services import SERVICES
from slipstream_cli.local.processes import StartError
from tests.buckets import MOTO, WITHOUT_MOTO
from tests.e2e.stack import START_LIMIT_S
from tests.faults.case import BROKER, Case
from tests.faults.replicas import SEVERAL
from tests.faults.run import PATIENCE_S, run
from tests.faults.troubles import TROUBLES
from tests.faults.troubles.networks import Networks, enter_own_network
from tests.servers import VARIABLE, Embedded, Real, RedisKind, chosen

# So that there are runs to be interrupted.
TRAINING = {
    "SLIPSTREAM_TRAINING__NEW_EVENTS": "5000",
    "SLIPSTREAM_TRAINING__COOLDOWN_MINUTES": "0",
    "SLIPSTREAM_TRAINING__CHECK_SECONDS": "2",
}
# Seconds within which Sentinels promote a replica.
LONGEST_FAILOVER_S = 8
# How often each is killed, by what `--kill` calls it.
KILLS = {"services": 10, "redis": 3, "postgresql": 3, BROKER: 3}


@click.command()
@click.option(
    "--seconds",
    type=float,
    default=150.0,
    show_default=True,
    help="How long events come and services are killed.",
)
@click.option(
    "--kill",
    "killed",
    type=click.Choice([*KILLS, *SERVICES, "all"]),
    multiple=True,
    default=("services",),
    show_default=True,
    help="Whom to kill: every process of the services, or of one of them "
    f"({KILLS['services']} times each), Redis (Valkey, on the embedded servers; {KILLS['redis']}), "
    f"PostgreSQL ({KILLS['postgresql']}), or the broker ({KILLS['broker']}); of a cluster one that "
    "leads partitions, each in turn.",
)
@click.option("--kills", type=click.IntRange(1), help="How often to kill each of them.")
@click.option(
    "--replicas",
    is_flag=True,
    help=f"Run {', '.join(f'{count} {name}' for name, count in SEVERAL.items())}.",
)
@click.option(
    "--trouble",
    type=click.Choice([*TROUBLES]),
    help="What befalls the stack, with replicas and on real servers, instead of the kills.",
)
@click.option("--strikes", type=click.IntRange(1), help="Strikes of the trouble (all).")
@click.option(
    "--beside",
    default="",
    help="The other commit that runs, for --trouble versions; by default that of the last release, "
    "else the one before the newest change of the code.",
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
    "--brokers",
    type=click.IntRange(1, 9),
    default=1,
    show_default=True,
    help="The brokers of the cluster.",
)
@click.option(
    "--partitions",
    type=click.IntRange(1, 1_000),
    help="Partitions of the interactions and the slates (as declared).",
)
@click.option(
    "--lake",
    type=click.Choice(["folder", "s3"]),
    default="folder",
    show_default=True,
    help="Where the lake is: in a folder, or in a bucket of moto's S3 server.",
)
@click.option(
    "--redis",
    "redis_kind",
    type=click.Choice([kind.value for kind in RedisKind]),
    default=RedisKind.SINGLE.value,
    show_default=True,
    help="One Redis; or a primary with two replicas, which Sentinels promote where it stays away: "
    f"with --kill redis, --pause {LONGEST_FAILOVER_S}; or a Redis Cluster of three nodes, of which "
    "--kill redis kills each in turn.",
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
    killed: tuple[str, ...],
    kills: int | None,
    replicas: bool,
    trouble: str | None,
    strikes: int | None,
    beside: str,
    rate: float,
    seed: int,
    servers: str | None,
    brokers: int,
    partitions: int | None,
    lake: str,
    redis_kind: str,
    pauses: tuple[float, ...],
    json_path: Path | None,
) -> None:
    """Send events to a stack of its own, kill services at random moments, and compare its stores
    with what was acknowledged.

    \b
    Example:  make faults FAULTS_ARGS="--servers real --replicas --brokers 3 --kill all"
    """
    redis = RedisKind(redis_kind)
    if trouble:
        if lake == "s3" and trouble == "disks":
            raise click.UsageError("--trouble disks is about a lake in a folder")
        if redis not in (fitting := TROUBLES[trouble].redis):
            raise click.UsageError(f"--trouble {trouble} is for --redis {' or '.join(fitting)}")
        if lacking := TROUBLES[trouble](beside).lacking():
            raise click.UsageError(f"--trouble {trouble}: {lacking}")
        if TROUBLES[trouble] is Networks:
            enter_own_network(sys.argv[1:])
    try:
        servers = Real.kind if trouble else servers
        kind = chosen({**os.environ, VARIABLE: servers} if servers else os.environ)
        told = kind.versions
    except StartError as error:
        raise click.ClickException(str(error)) from error
    if kind.kind == Embedded.kind and (brokers > 1 or {"broker", "all"} & {*killed}):
        raise click.UsageError(
            "the embedded broker runs alone and keeps its records in memory: "
            "killed, it forgets what it acknowledged; "
            "take --servers real"
        )
    if kind.kind == Embedded.kind and (redis is not RedisKind.SINGLE or partitions):
        raise click.UsageError(
            "the embedded servers have one Redis, and the partitions that are declared; "
            "take --servers real"
        )
    if lake == "s3" and MOTO is None:
        raise click.UsageError(f"--lake s3: {WITHOUT_MOTO}")
    if kind.kind == Embedded.kind and "postgresql" in killed:
        raise click.UsageError("the embedded servers have no PostgreSQL; take --servers real")
    times = {
        process: kills or KILLS.get(name, KILLS["services"])
        for name in (KILLS if "all" in killed else dict.fromkeys(killed))
        for process in (SERVICES if name == "services" else [name])
    }
    case = Case(
        seconds,
        times,
        rate=rate,
        seed=seed,
        settings={} if trouble else TRAINING,
        brokers=brokers,
        replicas=SEVERAL if replicas or trouble else {},
        pauses_s=pauses,
        trouble=trouble or "",
        strikes=strikes,
        beside=beside,
        redis=redis,
        partitions=partitions,
        bucket=lake == "s3",
    )
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
    """The start, the load's time, and each wait for what must follow."""
    return START_LIMIT_S + case.limit_s + 5 * PATIENCE_S


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
