"""`slipstream simulate`: write the events of a simulated shop, or have its shoppers visit."""

import asyncio
import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from click.core import ParameterSource

from slipstream_cli.options import data_dir, json_out
from slipstream_cli.peers import environment_settings, target_options, target_url

if TYPE_CHECKING:
    from slipstream.datasets.live_visits import LiveVisits

_count = click.IntRange(min=1)
_REQUIRED = "required for files"
# Most items: the truth compares all of them for hundreds of shoppers.
_MOST_ITEMS = 20_000
_seconds = click.FloatRange(min=0, min_open=True)
# Options of each kind, by their parameters.
_OF_FILES = ("folder", "visitors", "events", "days", "impressions")
_OF_LIVE = (
    *("shoppers", "rate", "seconds", "shift", "broken", "break_after", "placement", "at_once"),
    *("url", "serving_url", "write_key", "data_dir", "json_path"),
)


@click.command(short_help="Write the events of a simulated shop, or send its shoppers live.")
@click.argument(
    "folder",
    metavar="[OUT_DIR]",
    required=False,
    type=click.Path(file_okay=False, path_type=Path),
)
@click.option(
    "--visitors",
    type=_count,
    show_default=_REQUIRED,
    help="Number of visitors; each has an event or more.",
)
@click.option(
    "--items",
    type=_count,
    show_default=f"500 with --live, {_REQUIRED}",
    help="Number of items; some may have no event.",
)
@click.option(
    "--events",
    type=_count,
    show_default=_REQUIRED,
    help="Number of views, carts and purchases together.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the random numbers; the same seed gives the same files, shoppers and visits.",
)
@click.option(
    "--days", type=_count, default=90, show_default=True, help="Days that the events spread over."
)
@click.option(
    "--impressions",
    is_flag=True,
    help="Also write impressions of the lists that some views came from, in addition to --events.",
)
@click.option(
    "--live",
    is_flag=True,
    help="Write no files: shoppers ask running services for lists, and react to them.",
)
@click.option(
    "--shoppers",
    type=click.IntRange(1, 200_000),
    default=1_000,
    show_default=True,
    help="With --live: number of shoppers.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True, max=2_000),
    default=50.0,
    show_default=True,
    help="With --live: calls to ingestion a second.",
)
@click.option("--seconds", type=_seconds, help="With --live: length. Default: until Ctrl-C.")
@click.option(
    "--shift",
    type=_seconds,
    help="With --live: seconds after which all tastes change. Default: never.",
)
@click.option(
    "--break",
    "broken",
    type=click.Choice(["feature", "catalogue"]),
    help="With --live: what breaks: feature, the tracker renames clicks and carts; catalogue, the"
    " importer loses categories, brands and prices. Default: nothing.",
)
@click.option(
    "--break-after",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="With --break: seconds after which it breaks.",
)
@click.option("--placement", default="", help="With --live: placement of the lists. Default: none.")
@click.option(
    "--at-once",
    type=click.IntRange(1, 500),
    default=16,
    show_default=True,
    help="With --live: most visits at the same time.",
)
@target_options
@click.option(
    "--serving-url",
    help="URL of serving. Default: that of the stack running on the data folder, or of"
    " SLIPSTREAM_PEERS__SERVING_URL, or port 8004 of this machine.",
)
@data_dir
@json_out
@click.pass_context
def simulate(
    context: click.Context, /, live: bool, items: int | None, seed: int, **chosen: Any
) -> None:
    """Write interactions.parquet and items.parquet of a simulated shop to OUT_DIR.

    The files are for load tests, development and comparing models. Popularity is unequal, items
    appear over time, visitors have tastes that drift and stay in a category for some views, and
    some views lead to carts and purchases. Memory does not grow with the number of events.

    With --live, shoppers visit running services instead: they ask for lists, look, click, buy and
    log in by tastes that are hidden from the services. The file of --json has the truth: each
    taste, and the true click-through of the lists.

    \b
    Example:  slipstream simulate shop --visitors 2000 --items 500 --events 30000
              slipstream simulate large --visitors 1000000 --items 100000 --events 10000000 --seed 7
              slipstream simulate --live --rate 200 --seconds 600 --shift 300 --json truth.json
    """
    _refuse_others(context, _OF_FILES if live else _OF_LIVE, live)
    if chosen["broken"] is None and _is_given(context, "break_after"):
        raise click.UsageError("--break-after needs --break")
    if live:
        _live(items or 500, seed, **{k: v for k, v in chosen.items() if k not in _OF_FILES})
        return
    wanted = {name: chosen[name] for name in _OF_FILES} | {"items": items}
    for name in ("folder", "visitors", "items", "events"):
        if wanted[name] is None:
            kind = "argument" if name == "folder" else "option"
            raise click.UsageError(f"Missing {kind} '{_shown(name)}'. With --live none is needed.")
    _write(seed=seed, **wanted)


def _refuse_others(context: click.Context, others: tuple[str, ...], live: bool) -> None:
    """Raise `click.UsageError` for an option of the other kind."""
    for name in others:
        if _is_given(context, name):
            raise click.UsageError(
                f"{_shown(name)} {'does not go with' if live else 'needs'} --live"
            )


def _is_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _shown(parameter: str) -> str:
    names = {"folder": "OUT_DIR", "broken": "--break", "json_path": "--json"}
    return names.get(parameter, f"--{parameter.replace('_', '-')}")


def _write(folder: Path, **parameters: Any) -> None:
    from slipstream.datasets.simulator import Simulation
    from slipstream.datasets.simulator import simulate as write
    from slipstream_cli.local.terminal import Terminal

    try:
        files = write(folder, Simulation(**parameters), Terminal().bar())
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    for event_type, count in files.by_type.items():
        click.echo(f"{event_type:<10} {count:,}")
    click.echo(f"Wrote {files.interactions} and {files.items}.")
    click.echo(
        f"Next: slipstream evaluate {files.interactions} --items {files.items}"
        " --protocol time-split"
    )
    click.echo(
        f"  or, with slipstream up: slipstream replay {files.interactions} --items {files.items}"
    )


def _live(
    items: int,
    seed: int,
    *,
    shoppers: int,
    rate: float,
    seconds: float | None,
    shift: float | None,
    broken: Literal["feature", "catalogue"] | None,
    break_after: float,
    placement: str,
    at_once: int,
    url: str | None,
    serving_url: str | None,
    write_key: str | None,
    data_dir: Path,
    json_path: Path | None,
) -> None:
    from slipstream.datasets.live_visits import SilentServiceError
    from slipstream.datasets.living_shop import make_shop
    from slipstream.datasets.living_truth import Plan
    from slipstream_cli.local.terminal import Terminal
    from slipstream_cli.shoppers import visit

    if items > _MOST_ITEMS:
        raise click.UsageError(f"--items is at most {_MOST_ITEMS:,} with --live")
    ingestion, running = target_url("ingestion", url, data_dir)
    serving, _ = target_url("serving", serving_url, data_dir, otherwise="--serving-url")
    plan = Plan(rate, seconds, shift, broken, break_after, placement=placement, concurrency=at_once)
    shop = make_shop(seed, shoppers, items)
    token = environment_settings().http.api_token.get_secret_value()
    key = write_key or running.get("write_key", "dev")
    tell = Terminal().line
    visiting, failure = asyncio.run(
        visit(shop, plan, ingestion, key, serving, token, tell, _stop_by_signals)
    )
    truth, total = visiting.truth, visiting.truth.total()
    if json_path:
        json_path.write_text(json.dumps(truth.report()) + "\n", encoding="utf-8")
    sent = sum(truth.events.values())
    took = max(((truth.ended_at or 0) - truth.started_at) / 1000, 0.001)
    click.echo(
        f"{sent:,} events in {took:,.0f} s ({sent / took:,.0f}/s) of {truth.visits:,} visits,"
        f" {truth.logins:,} logins, {total.lists:,} lists"
    )
    if total.lists:
        click.echo(
            f"{total.clicked / total.lists:.2%} of lists clicked,"
            f" {total.expected_clicked / total.lists:.2%} by the truth;"
            f" {total.purchases:,} purchases, {total.revenue:,.2f} EUR"
        )
    for what, count in (*truth.rejected.items(), ("not sent", truth.unsent)):
        if count:
            click.echo(f"{count:,} events: {what}")
    if json_path:
        click.echo(f"Wrote {json_path}.")
    if isinstance(failure, SilentServiceError):
        raise click.ClickException(
            f"{failure}; start it with slipstream up, or say where it is with --url and"
            " --serving-url"
        )
    if failure:
        raise click.ClickException(str(failure))


def _stop_by_signals(visiting: "LiveVisits") -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, visiting.stop)
