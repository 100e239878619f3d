"""The outcome of an import: its counts, what comes next, and the exit status."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipstream_cli.options import option_of

if TYPE_CHECKING:
    from slipstream.datasets.imports.conversion import RejectedRows
    from slipstream.datasets.imports.sending import ReplayReport


def show_outcome(
    report: "ReplayReport", rejected: "RejectedRows", running: Mapping[str, str], data_dir: Path
) -> None:
    """Print the counts of an import, and name what comes next.

    Args:
        report: The counts.
        rejected: The file of rejected rows.
        running: Description of the stack that it went to; empty where that is not known.
        data_dir: The stack's data folder.
    """
    if report.items or report.items_rejected:
        click.echo(f"items       {report.items:,} accepted, {report.items_rejected:,} rejected")
    if report.events or report.rejected:
        repeats = " (sent before, or the same line of an order)" if report.duplicates else ""
        click.echo(
            f"accepted    {report.accepted:,}\nduplicates  {report.duplicates:,}{repeats}\n"
            f"rejected    {report.rejected:,}"
        )
        for code, count in report.rejected_by_code.most_common():
            click.echo(f"  {code}: {count:,}")
        click.echo(f"{report.events_per_s:,.0f} events/s over {report.seconds:.1f} s")
    if rejected.count:
        click.echo(f"Rejected rows, with line and reason: {rejected.path}")
    for line in _next_steps(report, rejected, running, data_dir):
        click.echo(line)


def _next_steps(
    report: "ReplayReport", rejected: "RejectedRows", running: Mapping[str, str], data_dir: Path
) -> list[str]:
    at = option_of(data_dir) if running else ""
    steps = []
    if report.has_letters:
        steps.append(f"slipstream dead-letters list --since 10m{at}")
    elif rejected.count:
        steps.append(f"repair the rows of {rejected.path}, and import the file again")
    if report.accepted or report.duplicates or report.items:
        steps += _training_steps(running, at)
    return [f"{'Next:' if number == 0 else '     '} {step}" for number, step in enumerate(steps)]


def _training_steps(running: Mapping[str, str], at: str) -> list[str]:
    """What comes next, by what training has done: a first run, one that goes on, or a look."""
    from slipstream.chassis.client import PeerError
    from slipstream_cli.peers import peer_at

    if not running:
        return ["slipstream runs start --follow"]
    training = peer_at("training", running["training"])
    try:
        runs = training.get("/v1/runs", limit=5)["items"]
        if any(run["state"] in ("queued", "running") for run in runs):
            return [f"slipstream runs follow{at}"]
        training.get("/v1/aliases/champion")
    except PeerError:
        return [f"slipstream runs start --follow{at}"]
    return [
        f"slipstream doctor{at}",
        f"curl {running['features']}/v1/status shows how many events features has applied",
    ]
