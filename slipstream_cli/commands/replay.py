"""`slipstream replay`: send an interaction file through ingestion at the pace of its events."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slipstream_cli.imports import choices_of, file_options
from slipstream_cli.options import data_dir, json_out, write_json
from slipstream_cli.peers import target_options, target_url

if TYPE_CHECKING:
    from slipstream.datasets.imports.understanding import Kind


@click.command(short_help="Send an interaction file at its pace through ingestion.")
@click.argument("file")
@click.option(
    "--items",
    metavar="FILE",
    help="File of items (item_id and attributes), sent first. Default: none.",
)
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    help="Speed as a multiple of real time, by the events' timestamps."
    " Default: as fast as possible.",
)
@click.option(
    "--batch",
    "batch_size",
    type=click.IntRange(1, 1000),
    default=500,
    show_default=True,
    help="Events per request.",
)
@file_options
@click.option(
    "--rejected",
    "rejected_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File that rejected rows are written to, as CSV with line and reason."
    " Default: NAME.rejected.csv in the current folder.",
)
@target_options
@data_dir
@json_out
def replay(
    file: str,
    items: str | None,
    speed: float | None,
    batch_size: int,
    rejected_path: Path | None,
    url: str | None,
    write_key: str | None,
    data_dir: Path,
    json_path: Path | None,
    **choices: Any,
) -> None:
    """Send an interaction file through ingestion's REST API, in the order of time.

    The file is read as slipstream import reads it, but nothing is asked: what is open is an error.
    The exit status is 1 when a row was rejected.

    \b
    Example:  slipstream replay events.csv.gz --items items.csv --speed 60
    """
    from slipstream.datasets.imports.conversion import RejectedRows
    from slipstream.datasets.imports.sending import Target, send
    from slipstream.datasets.imports.sources import ImportFileError, find_files
    from slipstream.datasets.upload import ReplayError
    from slipstream_cli import imports
    from slipstream_cli.imports import show_outcome
    from slipstream_cli.local.terminal import Terminal

    chosen, terminal = choices_of(**choices), Terminal()
    address, running = target_url("ingestion", url, data_dir)
    files: list[tuple[str, Kind]] = [(file, "events")]
    if items:
        files.insert(0, (items, "items"))
    try:
        found = [(file, kind) for name, kind in files for file in find_files(name)]
        imports.refuse_unmatched([file for file, _ in found], chosen)
        exports = [
            imports.preview(file, chosen, kind, terminal, asking=False) for file, kind in found
        ]
        path = rejected_path or Path(f"{exports[-1][0].file.stem}.rejected.csv")
        key = write_key or running.get("write_key", "dev")
        with RejectedRows(path) as rejected:
            target = Target(address, key, speed, batch_size)
            report = send(exports, target, terminal.bar(), rejected.add)
    except (ImportFileError, ReplayError) as error:
        raise click.ClickException(str(error)) from error
    show_outcome(report, rejected, running, data_dir)
    write_json(json_path, {**asdict(report), "events_per_s": report.events_per_s})
    if not report.complete:
        raise SystemExit(1)
