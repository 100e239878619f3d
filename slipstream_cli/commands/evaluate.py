"""`slipstream evaluate`."""

from pathlib import Path
from typing import Any

import click

from slipstream.contracts.times import format_duration
from slipstream_cli.options import existing_file, json_out, write_json


@click.command()
@click.argument("file", type=existing_file)
@click.option(
    "--protocol", type=click.Choice(["leave-last-out", "next-click", "time-split"]), required=True
)
@click.option("--items", type=existing_file, help="A file of items with their attributes.")
@click.option(
    "--queries", type=existing_file, help="Session prefixes and what came next; for next-click."
)
@click.option("--profile", type=click.Choice(["fast", "best"]), default="fast", show_default=True)
@click.option(
    "--k",
    "ks",
    default="10,20",
    show_default=True,
    metavar="K[,K...]",
    help="Lengths of the lists that are judged.",
)
@click.option(
    "--last-days",
    type=float,
    help="What a time-split keeps out; by default the last fifth of the events.",
)
@click.option(
    "--search-minutes",
    type=click.FloatRange(0),
    default=0,
    help="First try other parameters of the network for so long.",
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
    json_path: Path | None,
) -> None:
    """Train on a file and measure on what was kept out of it, with 95 % confidence intervals.

    \b
    Example:  slipstream evaluate events.parquet --protocol leave-last-out --k 10
              slipstream evaluate events.parquet --protocol time-split --search-minutes 30 --json found.json
    """
    try:
        lengths = [int(k) for k in ks.split(",")]
    except ValueError as error:
        raise click.BadParameter(
            f"{ks!r} is not a list of whole numbers", param_hint="--k"
        ) from error
    from slipstream.datasets.interactions import InteractionFileError
    from slipstream.recommender.evaluate import evaluate as measure
    from slipstream_cli.local.terminal import Terminal

    terminal = Terminal()
    try:
        result = measure(
            file,
            protocol,
            items,
            queries,
            profile,
            lengths,
            progress=lambda step: terminal.progress(
                f"{step.stage} ({step.share:.0%})" if step.share != 1 else ""
            ),
            search_minutes=search_minutes,
            last_days=last_days,
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
        "Next: slipstream up, and replay the file, to serve what was measured."
        if not json_path
        else f"Wrote {json_path}."
    )


def _show_evaluation(result: dict[str, Any], by: str) -> None:
    for name, metric in result["metrics"].items():
        interval = f"   [{metric['low']:.4f}, {metric['high']:.4f}]" if "low" in metric else ""
        click.echo(f"{name:<14} {metric['value']:.4f}{interval}")
    part, alone = max(result["ablation"]["alone"].items(), key=lambda one: one[1][by])
    ahead = result["ablation"]["ahead"][part][by]
    interval = f"[{ahead['low']:+.4f}, {ahead['high']:+.4f}]"
    click.echo(
        f"{'best part':<14} {part}: {by} {alone[by]:.4f}, behind the whole by {ahead['value']:.4f}   {interval}"
    )
    fitted, asked = (format_duration(result["seconds"][step]) for step in ("fit", "evaluate"))
    click.echo(
        f"{'took':<14} {fitted}, and {asked} for {result['queries']:,} questions; {result['peak_memory_mb']:,.0f} MB at most"
    )
