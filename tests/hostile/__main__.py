"""`make hostile`: the stack under its manifests' memory limits and the worst traffic."""

import math
import os
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import click
import httpx
import orjson

from bench.ceiling import running_empty_route
from bench.load import basic_auth
from slipstream.chassis.access.verifier import MOST_WRONG
from slipstream_cli.local.processes import StartError
from tests.hostile.attacks import TRAILERS, WRONG_CREDENTIALS
from tests.hostile.bed import API_TOKEN, SERVER_KEY, Bed, opened
from tests.hostile.gains import Reader
from tests.hostile.honest import Answers, Question, ask
from tests.hostile.hostile import attack
from tests.hostile.memory_group import why_not
from tests.servers import VARIABLE, Embedded, Real, chosen


@click.command()
@click.option(
    "--minutes", type=float, default=10.0, show_default=True, help="Length of the attack."
)
@click.option(
    "--alone-seconds",
    type=float,
    default=60.0,
    show_default=True,
    help="How long honest clients are measured alone before.",
)
@click.option("--kinds", default="", help="Pattern of the attacks' names; all, if not given.")
@click.option("--servers", type=click.Choice([Embedded.kind, Real.kind]), help="Servers to run on.")
def main(minutes: float, alone_seconds: float, kinds: str, servers: str | None) -> None:
    """Attack a stack of its own, and report memory, kills, and honest clients' latencies.

    \b
    Example:  make hostile HOSTILE_ARGS="--servers real --minutes 10"
    """
    if reason := why_not():
        raise click.ClickException(reason)
    try:
        kind = chosen({**os.environ, VARIABLE: servers} if servers else os.environ)
        click.echo(f"on {kind.versions}", err=True)
    except StartError as error:
        raise click.ClickException(str(error)) from error
    with (
        tempfile.TemporaryDirectory(prefix="slipstream-hostile-") as directory,
        ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool,
        opened(Path(directory), kind) as bed,
        running_empty_route() as empty_url,
    ):
        questions = _questions(bed.ports) | {
            # It is not attacked: its latency is the wait for a processor during the attack.
            "empty route": Question(httpx.URL(empty_url).port or 80, "GET", "/", b"", {})
        }
        pool.submit(ask, questions, 10.0).result()
        alone = pool.submit(ask, questions, alone_seconds).result()
        reader = Reader(bed.ports)
        lags_alone, lines = reader.lags_ms(5.0), reader.metric_lines()
        attacking = pool.submit(attack, bed.ports, minutes * 60, kinds)
        asking = pool.submit(ask, questions, minutes * 60)
        lags = reader.lags_ms(minutes * 60)
        told = attacking.result()
        _report(bed, alone, asking.result(), told)
        click.echo(
            f"\nan event until it is seen, ms: worst {max(lags_alone):.0f} alone,"
            f" {max(lags):.0f} during the attack ({len(lags)} events)"
        )
        if gains := [*reader.thefts(), *reader.lifts(), *reader.grown(lines)]:
            raise click.ClickException("; ".join(gains))
        if dead := [name for name in bed.ports if not bed.alive(name)]:
            raise click.ClickException(f"not alive any more: {', '.join(dead)}")
        if inside := [
            name for name, answers in told.items() if name.startswith(TRAILERS) and answers["200"]
        ]:
            raise click.ClickException(f"a trailer opened a route: {', '.join(inside)}")
        # A minute has five guesses, and the attack touches one more than it lasts.
        most = MOST_WRONG * (math.ceil(minutes) + 1)
        if loose := [
            name
            for name, answers in told.items()
            if name.startswith(WRONG_CREDENTIALS) and answers["401"] > most
        ]:
            raise click.ClickException(f"more than {most} guesses: {', '.join(loose)}")


def _questions(ports: dict[str, int]) -> dict[str, Question]:
    token = {"Authorization": f"Bearer {API_TOKEN}", "Content-Type": "application/json"}
    event = {
        "event": "Product Viewed",
        "messageId": f"NAME-{os.getpid()}",
        "userId": "honest",
        "properties": {"product_id": "i1"},
    }
    features = {
        "entities": {"user_id": ["honest"]},
        "features": ["visitor:events_1h", "session:items"],
    }
    track = {**basic_auth(SERVER_KEY), "Content-Type": "application/json"}
    return {
        "ingestion: an event": Question(
            ports["ingestion"], "POST", "/v1/track", orjson.dumps(event), track
        ),
        "serving: a slate": Question(
            ports["serving"], "GET", "/v1/recommendations/honest", b"", token
        ),
        "features: a visitor": Question(
            ports["features"], "POST", "/get-online-features", orjson.dumps(features), token
        ),
    }


def _report(
    bed: Bed,
    alone: dict[str, Answers],
    during: dict[str, Answers],
    told: dict[str, Counter[str]],
) -> None:
    click.echo(f"{'service':<12} {'limit MiB':>10} {'most MiB':>10} {'kills':>6}  alive")
    for name in bed.ports:
        click.echo(
            f"{name:<12} {bed.limit(name) >> 20:>10} {bed.most_memory(name) >> 20:>10} "
            f"{bed.kills(name):>6}  {'yes' if bed.alive(name) else 'NO'}"
        )
    click.echo(
        f"\n{'honest clients, ms':<24} {'p50':>7} {'p99':>7} | {'p50':>7} {'p99':>7}  failed"
    )
    for name, before in alone.items():
        after = during[name]
        click.echo(
            f"{name:<24} {before.percentile(50):>7.1f} {before.percentile(99):>7.1f} | "
            f"{after.percentile(50):>7.1f} {after.percentile(99):>7.1f}  "
            f"{after.failed} of {len(after.latencies_ms)}"
        )
    click.echo("\nhostile clients were answered")
    for name, answers in told.items():
        words = ", ".join(f"{answer} {count}" for answer, count in answers.most_common())
        click.echo(f"  {name:<28} {words}")


if __name__ == "__main__":
    main()
