"""`slipstream experiments`: list, show, set and delete experiments, and read their results."""

from collections.abc import Iterator
from typing import Any, Final

import click

from slipstream_cli.named_records import (
    RecordCommands,
    delete_options,
    name_argument,
    set_options,
    show_options,
)
from slipstream_cli.output import show_table
from slipstream_cli.peers import segment
from slipstream_cli.rest_commands import Columns, call, json_flag, peer_group

COMMANDS = RecordCommands("/v1/experiments", "design")
COLUMNS: Final[Columns] = {
    "placements": lambda design: ", ".join(design["placements"]),
    "state": lambda design: design["state"],
    "kind": lambda design: design["kind"],
    "metric": lambda design: design.get("metric", "click_through"),
    "variants": lambda design: ", ".join(map(_variant, design["variants"])),
    "traffic": lambda design: f"{design['traffic']:.0%}",
    "returned": lambda design: design.get("stopped_because", ""),
}


def _variant(variant: dict[str, Any]) -> str:
    model = variant.get("model")
    return f"{variant['name']} ({model})" if model else str(variant["name"])


@peer_group("monitoring", short_help="List, show, set and delete experiments, and read results.")
def experiments() -> None:
    """List, show, set and delete experiments, and read results, over monitoring's REST API.

    An experiment compares variants of a placement's policy, or of the model (docs/experiments.md).
    Serving has a change within a second. Every revision is kept.

    \b
    Example:  slipstream experiments set calmer.json
              slipstream experiments show calmer
    """


@experiments.command("list", short_help="List all experiments.")
@json_flag
def list_experiments() -> None:
    """List all experiments: placements, state, variants, and who changed it last.

    A canary that its guard has stopped says why.

    \b
    Example:  slipstream experiments list
    """
    COMMANDS.list(COLUMNS)


@experiments.command("show", short_help="Show an experiment's design, as `set` takes it.")
@show_options
def show_experiment(**options: Any) -> None:
    """Show the design of NAME as JSON, as `slipstream experiments set` takes it.

    \b
    Example:  slipstream experiments show calmer
              slipstream experiments show calmer --revision 3
    """
    COMMANDS.show(**options)


@experiments.command("set", short_help="Create an experiment, or replace its design.")
@set_options
def set_experiment(**options: Any) -> None:
    """Create an experiment, or replace its whole design with that in FILE.

    The same design again changes nothing. FILE is JSON, for example:

    \b
        {"placements": ["home"], "traffic": 0.5, "variants": [
          {"name": "as-now"}, {"name": "varied", "diversity": 0.4}]}

    \b
    Example:  slipstream experiments set calmer.json
              slipstream experiments set stopped.json --name calmer --if-revision 3
    """
    COMMANDS.set(**options)


@experiments.command("delete", short_help="Delete an experiment.")
@delete_options
def delete_experiment(**options: Any) -> None:
    """Delete NAME: it assigns no more visitors. Its revisions stay.

    \b
    Example:  slipstream experiments delete calmer
    """
    COMMANDS.delete(**options)


@experiments.command("results", short_help="Show the results of an experiment.")
@name_argument
@json_flag
def show_results(name: str) -> None:
    """Show the verdicts on the variants of NAME, their metrics, models and latencies.

    Intervals hold whenever and however often one looks.

    \b
    Example:  slipstream experiments results calmer
              slipstream experiments results calmer --json | jq '.verdicts'
    """
    with call().peer() as peer:
        found = peer.get(f"{COMMANDS.path}/{segment(name)}/results")
    if call().shows_json(found):
        return
    metrics = list(found["variants"][0]["metrics"])
    headings = ["variant", "visitors", "slates"]
    for metric in metrics:
        headings += [metric, "difference"]
    headings += ["models", "ms (mean, p99)", "by the champion instead"]
    show_table(headings, [_result(it, metrics) for it in found["variants"]])
    click.echo("")
    for line in _remarks(found):
        click.echo(line)


def _result(variant: dict[str, Any], metrics: list[str]) -> tuple[str, ...]:
    cells = [variant["variant"], str(variant["visitors"]), str(variant["slates"])]
    for metric in metrics:
        own = variant["metrics"][metric]
        cells += [_value(metric, own["value"]), _share(own["relative"] or {})]
    return (
        *cells,
        _counts(variant["models"]),
        _ms(variant["latency_ms"]),
        _counts(variant["substituted"]),
    )


def _remarks(found: dict[str, Any]) -> Iterator[str]:
    """The lines below the table: verdicts, shares, guard, shadow and earlier designs."""
    for verdict in found["verdicts"]:
        goes_on = verdict["verdict"] == "go_on" and verdict["days_left"] is not None
        left = f"; {verdict['days_left']:.1f} days left" if goes_on else ""
        words = verdict["verdict"].replace("_", " ")
        yield f"{verdict['variant']}: {words}, since {verdict['reason']}{left}"
    shares = found["shares"]
    if shares["in_two_variants"]:
        done = "left out" if shares["excluded"] else "counted in each"
        yield f"Visitors in two variants: {shares['in_two_variants']}, {done}"
    if guard := found["guard"]:
        yield f"Guard: {guard['state']}{', ' if guard['reason'] else ''}{guard['reason']}"
    if shadow := found["shadow"]:
        overlap = "" if shadow["overlap"] is None else f", {shadow['overlap']:.0%} alike"
        yield (
            f"Shadow {shadow['variant']}: {shadow['slates']} slates by "
            f"{_counts(shadow['models'])} in {_ms(shadow['latency_ms'])} ms, "
            f"{shadow['compared']} compared{overlap}; "
            f"{shadow['clicked_in_shadow']} of {shadow['clicked']} clicked items stood in it. "
            f"Not made: {_counts(shadow['substituted']) or 'none'}"
        )
    for earlier in found["earlier"]:
        yield f"Revision {earlier['revision']} assigned {earlier['visitors']} visitors otherwise"


_NUMBERS = ("clicks_per_visitor", "purchases_per_visitor", "revenue_per_visitor", "latency")


def _value(metric: str, estimate: dict[str, Any]) -> str:
    """A metric's value: shares of slates in per cent, others as numbers."""
    if metric not in _NUMBERS or estimate["value"] is None:
        return _share(estimate)
    around = (
        "" if estimate["low"] is None else f" ({estimate['low']:.4g} to {estimate['high']:.4g})"
    )
    return f"{estimate['value']:.4g}{around}"


def _share(estimate: dict[str, Any]) -> str:
    if estimate.get("value") is None:
        return ""
    around = ""
    if estimate["low"] is not None:
        high = "" if estimate["high"] is None else f" to {estimate['high']:.1%}"
        around = f" ({estimate['low']:.1%}{high or ' or more'})"
    return f"{estimate['value']:.1%}{around}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name or 'no model'}: {count}" for name, count in sorted(counts.items()))


def _ms(latency: dict[str, Any]) -> str:
    return "" if latency["mean"] is None else f"{latency['mean']:.1f}, {latency['p99']:.1f}"
