"""`slipstream doctor`: examine a running stack and its data, and say what to repair."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipstream_cli.options import data_dir_option, option_of
from slipstream_cli.output import show_json

if TYPE_CHECKING:
    from slipstream_cli.doctor.examination import Examination


class _NoStackError(click.ClickException):
    """No stack was found to look at: as bad as one that is down."""

    exit_code = 2


@click.command(short_help="Examine a running stack and its data, and say what to repair.")
@click.option(
    "--events",
    type=click.IntRange(1_000, 5_000_000),
    default=200_000,
    show_default=True,
    help="Most events of the lake to examine, newest first.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON instead of text.")
@data_dir_option(
    "Data folder of the running stack. Without one there, the environment says where the parts are."
)
def doctor(events: int, as_json: bool, data_dir: Path) -> None:
    """Examine a running stack and its data, and say what to repair, most serious first.

    Each finding has its figure, why it matters, and the command or page that helps
    (docs/doctor.md). Nothing is changed. What is read is bounded: the newest events, 20,000 items,
    20,000 dead letters, ten seconds for each.

    \b
    The exit status is that of the most serious finding:
      0  none, or only notes
      1  a warning: recommendations are worse than they could be
      2  critical: a part is down, or data are or will be missing; also where no stack is found

    \b
    Example:  slipstream doctor
              slipstream doctor --json | jq -r '.findings[] | .check'
    """
    from slipstream.chassis.logging import log_to_stderr
    from slipstream_cli.doctor.examination import examine, places_of
    from slipstream_cli.doctor.findings import Limits, exit_status
    from slipstream_cli.local.terminal import Terminal

    log_to_stderr()
    terminal = Terminal()
    try:
        found = examine(places_of(data_dir), Limits(events=events), terminal.transient)
    except click.ClickException as error:
        raise _NoStackError(error.message) from error
    finally:
        terminal.progress("")
    if as_json:
        findings = [finding.as_json() for finding in found.findings]
        show_json({"looked_at": found.looked_at, "findings": findings})
    else:
        _show(found, option_of(data_dir))
    raise SystemExit(exit_status(found.findings))


def _show(found: "Examination", at: str) -> None:
    checked = ", ".join(f"{size} {name}" for name, size in found.looked_at.items())
    click.echo(f"Checked: {checked}.")
    for finding in found.findings:
        click.echo(f"\n{finding.weight.name.lower():<8}  {finding.figure}")
        click.echo(f"          {finding.why}")
        click.echo(f"          → {finding.remedy}")
    if not found.findings:
        click.echo("\nNo problems found.")
    elif at:
        click.echo(f"\nAdd{at} to these commands.")
