"""`slipstream releases`: a new release's pods compared with those of the present one."""

from functools import partial
from urllib.parse import urlsplit

import click

from slipstream_cli.output import show_table

READ_TIMEOUT_S = 5.0


class PodsUrl(click.ParamType[str]):
    """The URL of a headless Service, which leads to its pods."""

    name = "url"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            parts = urlsplit(value)
            sound = parts.scheme in ("http", "https") and parts.hostname and parts.port
        except ValueError:
            sound = False
        if not sound:
            self.fail(f"{value!r} is not a URL like http://serving-canary:8004", param, ctx)
        return value


@click.group("releases", short_help="Compare a new release of serving with the present one.")
def releases() -> None:
    """Compare a new release of serving with the present one, by their own metrics.

    \b
    Example:  slipstream releases compare --stable http://serving-stable:8004 \\
                  --canary http://serving-canary:8004
    """


@releases.command("compare", short_help="Tell whether a canary's pods may go on.")
@click.option(
    "--stable", type=PodsUrl(), required=True, help="Headless Service of the present release."
)
@click.option(
    "--canary", type=PodsUrl(), required=True, help="Headless Service of the new release."
)
@click.option(
    "--seconds",
    type=click.FloatRange(1),
    default=60.0,
    show_default=True,
    help="Time that both are watched for.",
)
@click.option(
    "--requests",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="Fewest requests that each must have answered by then.",
)
@click.option(
    "--errors",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="Most that the canary's share of 5xx may be above that of stable.",
)
@click.option(
    "--fallbacks",
    type=click.FloatRange(0, 1),
    default=0.05,
    show_default=True,
    help="Most that its share of lists without the model may be above that of stable.",
)
@click.option(
    "--p95-ms",
    type=click.FloatRange(0),
    default=50.0,
    show_default=True,
    help="Most milliseconds that its p95 may be above that of stable.",
)
def compare(
    stable: str,
    canary: str,
    seconds: float,
    requests: int,
    errors: float,
    fallbacks: float,
    p95_ms: float,
) -> None:
    """Watch the pods of two releases for a time, and tell whether the new one may go on.

    Each address of a URL's name is a pod, and its /metrics is read. Status 0: it may go on; 1: it
    is worse than the bounds allow, or a side has too few requests to tell, or no pod.

    \b
    Example:  slipstream releases compare --stable http://serving-stable:8004 \\
                  --canary http://serving-canary:8004 --seconds 60
    """
    import httpx

    from slipstream_cli.releases import Bounds, NoPodError, faults, read_pods, watch

    bounds = Bounds(requests, errors, fallbacks, p95_ms)
    with httpx.Client(timeout=READ_TIMEOUT_S, trust_env=False) as client:
        try:
            sides = watch(
                partial(read_pods, stable, client), partial(read_pods, canary, client), seconds
            )
        except NoPodError as error:
            raise click.ClickException(str(error)) from error
    rows = [
        (
            name,
            f"{side.pods}",
            f"{side.requests:,}",
            f"{side.errors:.2%}",
            f"{side.fallbacks:.2%}",
            f"{side.p95_ms:.0f} ms",
        )
        for name, side in zip(("stable", "canary"), sides, strict=True)
    ]
    allowed = f"+{errors:.2%}", f"+{fallbacks:.2%}", f"+{p95_ms:.0f} ms"
    show_table(
        ("release", "pods", "requests", "errors", "fallbacks", "p95"),
        [*rows, ("allowed", "", f"{requests:,}", *allowed)],
    )
    if found := faults(*sides, bounds):
        raise click.ClickException("; ".join(found))
    click.echo("The canary may go on.")
