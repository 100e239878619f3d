"""`slipstream import`: send a shop's export files through ingestion."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slipstream_cli.imports import choices_of, file_options
from slipstream_cli.options import data_dir, json_out, write_json
from slipstream_cli.peers import target_options, target_url

if TYPE_CHECKING:
    from slipstream.datasets.imports.sources import ExportFile
    from slipstream.datasets.imports.understanding import Kind


@click.command("import", short_help="Send a shop's export files through ingestion.")
@click.argument("files", nargs=-1, metavar="FILE...")
@click.option(
    "--items",
    multiple=True,
    metavar="FILE",
    help="File of items, whatever its columns look like; repeatable. Default: by the columns.",
)
@file_options
@click.option("--dry-run", is_flag=True, help="Show what would be sent, and send nothing.")
@click.option("--yes", is_flag=True, help="Send without asking you to confirm the preview.")
@click.option(
    "--rejected",
    "rejected_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File that rejected rows are written to, as CSV with line and reason."
    " Default: NAME.rejected.csv in the current folder; of several files, import.rejected.csv.",
)
@target_options
@data_dir
@json_out
def import_files(
    files: tuple[str, ...],
    items: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    rejected_path: Path | None,
    url: str | None,
    write_key: str | None,
    data_dir: Path,
    json_path: Path | None,
    **choices: Any,
) -> None:
    """Send a shop's export files, events and items, through ingestion.

    A FILE is CSV with any delimiter, JSON lines or Parquet, plain or compressed; a folder of such
    files; or a URL such as s3://bucket/folder. Columns are recognised by their usual names. A
    preview shows how each file is read, and asks about what is unclear. Without a terminal, that is
    an error.

    The same file again adds nothing. The exit status is 1 when a row was rejected.

    \b
    Example:  slipstream import orders.csv items.csv --dry-run
              slipstream import orders.csv --map customer_no=user_id --event-type purchase
    """
    from slipstream.datasets.imports.conversion import RejectedRows
    from slipstream.datasets.imports.sending import Target, send
    from slipstream.datasets.imports.sources import ImportFileError
    from slipstream.datasets.upload import ReplayError
    from slipstream_cli import imports
    from slipstream_cli.imports import show_outcome
    from slipstream_cli.local.terminal import Terminal

    if not files and not items:
        raise click.UsageError("Missing argument 'FILE...'.")
    chosen, terminal = choices_of(**choices), Terminal()
    found = _found(files, items)
    imports.refuse_unmatched([file for file, _ in found], chosen)
    address, running = ("", {}) if dry_run else target_url("ingestion", url, data_dir)
    name = found[0][0].stem if len(found) == 1 else "import"
    rejected = RejectedRows(rejected_path or Path(f"{name}.rejected.csv"))
    with rejected:
        exports = [
            imports.preview(file, chosen, kind, terminal, rejected.add if dry_run else None)
            for file, kind in found
        ]
        exports = imports.with_known_items(exports, terminal, data_dir)
        if not dry_run:
            if imports.is_asked() and not yes:
                imports.confirm(exports, address)
            target = Target(address, write_key or running.get("write_key", "dev"))
            known = imports.events_in_lake(exports, running, data_dir)
            try:
                report = send(exports, target, terminal.bar(), rejected.add, known or frozenset())
            except (ImportFileError, ReplayError) as error:
                raise click.ClickException(str(error)) from error
    if dry_run:
        click.echo("Nothing was sent.")
        if rejected.count:
            click.echo(f"Rows that can't be sent, with line and reason: {rejected.path}")
            raise SystemExit(1)
        return
    show_outcome(report, rejected, running, data_dir)
    if known is None and report.accepted:
        click.echo(
            "Accepted events may include repeats of imports over a day ago: features drops those"
            " that the lake has."
        )
    write_json(json_path, {**asdict(report), "events_per_s": report.events_per_s})
    if not report.complete:
        raise SystemExit(1)


def _found(
    files: tuple[str, ...], items: tuple[str, ...]
) -> "list[tuple[ExportFile, Kind | None]]":
    from slipstream.datasets.imports.sources import ImportFileError, find_files

    kinds: list[tuple[str, Kind | None]] = [(name, "items") for name in items]
    kinds += [(name, None) for name in files]
    try:
        return [(file, kind) for name, kind in kinds for file in find_files(name)]
    except ImportFileError as error:
        raise click.ClickException(str(error)) from error
