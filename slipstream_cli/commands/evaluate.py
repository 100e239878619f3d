"""`slipstream evaluate`: train on a file, and print metrics on its held-out part."""

from pathlib import Path
from typing import Any

import click

from slipstream.contracts.times import format_duration
from slipstream.recommender.scripted import ScriptedVisitors
from slipstream_cli.options import existing_file, json_out, write_json


@click.command(short_help="Train on a file, and measure on its held-out part.")
@click.argument("file", type=existing_file)
@click.option(
    "--protocol",
    type=click.Choice(["leave-last-out", "next-click", "time-split", "discovery"]),
    required=True,
    help="Held-out part: each visitor's last event, the next click of given session prefixes,"
    " the latest days, or of these the items that a visitor has not met before.",
)
@click.option(
    "--items", type=existing_file, help="File of items with their attributes. Default: none."
)
@click.option(
    "--queries",
    type=existing_file,
    help="File of session prefixes and their next clicks, for next-click. Default: none.",
)
@click.option(
    "--profile",
    type=click.Choice(["fast", "best"]),
    default="fast",
    show_default=True,
    help="Training effort: minutes (fast) or hours (best).",
)
@click.option(
    "--k",
    "ks",
    default="10,20",
    show_default=True,
    metavar="K[,K...]",
    help="List lengths that metrics are computed for.",
)
@click.option(
    "--last-days",
    type=float,
    help="Days held out by time-split and discovery. Default: those of the last fifth of the"
    " events.",
)
@click.option(
    "--search-minutes",
    type=click.FloatRange(0),
    default=0,
    show_default=True,
    help="Minutes spent on searching better parameters of the network first; 0: no search.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the fits, of samples and of the intervals.",
)
@click.option(
    "--cold",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    metavar="SHARE",
    help="Share of the items that are hidden from the fit, drawn by the seed. Their attributes"
    " stay, so that they compete as new items.",
)
@click.option(
    "--cold-events",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="First events of each hidden item that stay in the fit.",
)
@click.option(
    "--as-served",
    is_flag=True,
    help="For leave-last-out: measure once more after a refit on everything but the test, as"
    " training ships a model.",
)
@json_out
def evaluate(
    file: Path,
    protocol: str,
    items: Path | None,
    queries: Path | None,
    profile: str,
    ks: str,
    last_days: float | None,
    search_minutes: float,
    seed: int,
    cold: float,
    cold_events: int,
    as_served: bool,
    json_path: Path | None,
) -> None:
    """Train on a file and measure on its held-out part, with 95 % confidence intervals.

    \b
    Example:  slipstream evaluate events.parquet --protocol leave-last-out --k 10
              slipstream evaluate events.parquet --protocol time-split --search-minutes 30
              slipstream evaluate events.csv --items items.csv --protocol time-split --cold .1
    """
    try:
        lengths = [int(k) for k in ks.split(",")]
    except ValueError as error:
        raise click.BadParameter(
            f"{ks!r} is not a list of whole numbers", param_hint="--k"
        ) from error
    from slipstream.datasets.interactions import InteractionFileError
    from slipstream.models.distributed import led
    from slipstream.recommender.evaluate import evaluate as measure
    from slipstream_cli.local.terminal import Terminal

    if not click.get_current_context().with_resource(led()):
        return
    terminal = Terminal()
    try:
        result = measure(
            file,
            protocol,
            items,
            queries,
            profile,
            lengths,
            seed=seed,
            progress=lambda step: terminal.progress(
                f"{step.stage} ({step.share:.0%})" if step.share != 1 else ""
            ),
            search_minutes=search_minutes,
            last_days=last_days,
            cold=cold,
            cold_events=cold_events,
            as_served=as_served,
        )
    except (InteractionFileError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    _show_evaluation(result, f"ndcg@{lengths[0]}")
    if search_minutes:
        ended = [trial for trial in result["search"] if trial["state"] == "complete"]
        best = (
            f", the best was trial {max(ended, key=lambda trial: trial['quality'])['number'] + 1}"
            if ended
            else ""
        )
        click.echo(
            f"{'trials':<14} {len(result['search'])}{best or ': too few events for a network'}"
        )
    write_json(json_path, result)
    click.echo(
        "Next: slipstream up, and replay the file, to serve such a model."
        if not json_path
        else f"Wrote {json_path}."
    )


def _show_evaluation(result: dict[str, Any], by: str) -> None:
    """Metrics, and the best part, measured by `by`."""
    for name, metric in result["metrics"].items():
        interval = f"   [{metric['low']:.4f}, {metric['high']:.4f}]" if "low" in metric else ""
        click.echo(f"{name:<14} {metric['value']:.4f}{interval}")
    for name, metric in result["as_served"].items():
        click.echo(f"as served {name}: {metric['value']:.4f}")
    for group, figures in result["cold"].items():
        values = (
            f"{name} {figure['value']:.4f} [{figure['low']:.4f}, {figure['high']:.4f}]"
            for name, figure in figures.items()
            if name != "queries"
        )
        click.echo(f"{group}: {', '.join(values)}   {figures['queries']:,} questions")
    part, alone = max(result["ablation"]["alone"].items(), key=lambda item: item[1][by])
    ahead = result["ablation"]["ahead"][part][by]
    interval = f"[{ahead['low']:+.4f}, {ahead['high']:+.4f}]"
    click.echo(
        f"{'best part':<14} {part}: {by} {alone[by]:.4f},"
        f" behind the whole by {ahead['value']:.4f}   {interval}"
    )
    scripted = result["data"]["scripted"]
    if scripted["visitors"]:
        click.echo(
            f"{'scripted':<14} {ScriptedVisitors(**scripted).words()}: counted here, and left out"
            " by a training run"
        )
    fit, evaluation = (format_duration(result["seconds"][step]) for step in ("fit", "evaluate"))
    click.echo(
        f"{'took':<14} {fit}, and {evaluation} for {result['queries']:,} questions;"
        f" {result['peak_memory_mb']:,.0f} MB at most"
    )
