"""`slipstream price`: estimate what a draft of rules, weights or a model would bring."""

import sys
from typing import TYPE_CHECKING, Any

import click

from slipstream.contracts.times import format_duration, now_ms
from slipstream_cli.commands.answers import change_of, change_options
from slipstream_cli.options import AgeOrTime
from slipstream_cli.output import show_facts, show_table
from slipstream_cli.rest_commands import PeerCommand, call, json_flag

if TYPE_CHECKING:
    from slipstream.chassis.client import Peer

# Longest wait for a line of the answer. The first one comes when the log has been read.
_TIMEOUT_S = 300.0
_VERDICTS = {
    "more": "more, surely",
    "fewer": "fewer, surely",
    "open": "open: perhaps none",
    "cant_tell": "can't tell",
}


@click.command(
    cls=PeerCommand,
    service="serving",
    short_help="Estimate what a draft would bring, before going live.",
)
@click.argument("placement")
@change_options
@click.option(
    "--since",
    type=AgeOrTime(),
    default="7d",
    show_default=True,
    help="Time of the first slates, as an age (7d) or an ISO 8601 time.",
)
@click.option(
    "--until",
    type=AgeOrTime(),
    default="0s",
    show_default="now",
    help="Time before which slates were made, as an age or an ISO 8601 time.",
)
@click.option("--variant", default="", help="Variant of an experiment. Default: all slates.")
@click.option("--currency", help="Currency of the purchases that count. Default: the only one.")
@click.option(
    "--slates",
    type=click.IntRange(1, 10_000),
    default=10_000,
    show_default=True,
    help="Most slates that are recomputed, a random sample.",
)
@json_flag
def price(
    placement: str,
    since: int,
    until: int,
    variant: str,
    currency: str | None,
    slates: int,
    **changes: Any,
) -> None:
    """Estimate how a draft would change clicks and revenue of PLACEMENT.

    Serving recomputes the slates of sampled orders, as they were and by the draft, and weighs what
    followed (docs/price.md). The placement's policy must have a share of such slates
    (`sampling`). It takes minutes; requests go on. The key needs the scope operate.

    \b
    Example:  slipstream price home --without-rule sponsored
              slipstream price home --boost "1.5:margin > 0.3" --since 14d
              slipstream price home --policy draft.json --currency EUR
              slipstream price home --model 20261128-004003-ce697b --json
    """
    body = {
        "placement": placement,
        "since": since,
        "until": min(until, now_ms()),
        "draft": change_of(**changes),
        "variant": variant,
        "slates": slates,
    }
    if currency is not None:
        body["currency"] = currency
    with call().peer() as peer:
        found = _price(peer, body, quiet=call().as_json)
    if not call().shows_json(found):
        _show(found)


def _price(peer: "Peer", body: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    """Return the price, with a bar of progress until it comes."""
    hidden = quiet or not sys.stderr.isatty()
    with click.progressbar(
        length=1, label="slates", show_pos=True, file=sys.stderr, hidden=hidden
    ) as bar:
        for line in peer.lines("/v1/prices", body, _TIMEOUT_S):
            bar.length = line["of"]
            bar.update(line["done"] - bar.pos)
            if "problem" in line:
                raise click.ClickException(line["problem"]["detail"])
            if "price" in line:
                found: dict[str, Any] = line["price"]
                return found
    raise click.ClickException("serving ended the answer before the price: see its log")


def _show(found: dict[str, Any]) -> None:
    left_out = "; ".join(f"{reason}: {number:,}" for reason, number in found["left_out"].items())
    show_facts(
        [
            ("slates", f"{found['slates']:,}, {found['sampled']:,} with a sampled order"),
            ("recomputed", f"{found['weighed']:,} of {found['visitors']:,} visitors"),
            ("left out", left_out),
            ("took", format_duration(found["took_s"])),
        ]
    )
    for reward in found["rewards"]:
        unit = " ".join(filter(None, (reward["reward"], reward["currency"])))
        click.echo(f"\n{unit} in 1,000 slates: {reward['logged']:.6g} as they were")
        show_table(
            ("depends on", "estimator", "change", "from", "to", "verdict"),
            [
                (
                    each["assumption"],
                    each["estimator"],
                    f"{each['difference']:+.4g}",
                    _bound(each["low"]),
                    _bound(each["high"]),
                    _VERDICTS[each["verdict"]],
                )
                for each in reward["estimates"]
            ],
        )
        first = reward["estimates"][0]
        if first["reason"]:
            click.echo(f"Because {first['reason']}.")
        if first["slates_needed"] is not None:
            click.echo(f"About {first['slates_needed']:,} sampled slates would tell.")
    for note in found["notes"]:
        click.echo(f"Note: {note}.")


def _bound(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4g}"
