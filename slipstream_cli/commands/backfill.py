"""`slipstream backfill`: rebuild the online store from the lake, and write training rows."""

from pathlib import Path

import click

from slipstream_cli.options import AgeOrTime, data_dir_option, json_out, write_json
from slipstream_cli.peers import features_settings


@click.command(short_help="Rebuild the online store, and write training rows.")
@click.option(
    "--engine",
    type=click.Choice(["local", "spark"]),
    default="local",
    show_default=True,
    help="Engine that recomputes history: this machine or Spark.",
)
@click.option(
    "--online/--no-online",
    default=True,
    show_default=True,
    help="Whether the online store is rebuilt.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that training rows are written to (Parquet), replaced as a whole."
    " Default: no rows are written.",
)
@click.option(
    "--since",
    type=AgeOrTime(),
    help="Write training rows of events since then: an age (3d) or an ISO 8601 time (UTC)."
    " Default: the first event.",
)
@click.option(
    "--until",
    type=AgeOrTime(),
    help="Write training rows of events before then, given as for --since."
    " Default: up to the last event.",
)
@click.option(
    "--work-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder for data that does not fit into memory."
    " Default: the system's folder for temporary files.",
)
@click.option(
    "--spark-master",
    default="local[*]",
    show_default=True,
    help="Spark master to connect to, for --engine spark.",
)
@data_dir_option(
    "Data folder of the stack with the lake and online store,"
    " where the environment names no others."
)
@json_out
def backfill(
    engine: str,
    online: bool,
    output: Path | None,
    since: int | None,
    until: int | None,
    work_dir: Path | None,
    spark_master: str,
    data_dir: Path,
    json_path: Path | None,
) -> None:
    """Rebuild the online store from the lake, and write point-in-time training rows.

    The whole history is folded again by the functions that fold the stream. The online store gets
    visitors, items, trending and the catalogue. With --output, each event on an item gives a
    training row with all features as they were just before it.

    Services may run meanwhile, and a backfill can be repeated at any time. A state that is newer
    than the lake is replaced once the lake has caught up. For that the features service pauses for
    some seconds at the end.

    \b
    Example:  slipstream backfill
              slipstream backfill --no-online --output rows --since 2026-11-01
    """
    from dataclasses import asdict

    from services.features.history.backfill import BackfillRequest
    from services.features.history.backfill import backfill as run
    from services.features.history.spark_engine import SparkMissingError
    from services.features.history.training_files import OutputError
    from slipstream.stores.lake import LakeUnavailableError
    from slipstream.stores.online import StoreUnavailableError
    from slipstream_cli.local.terminal import Terminal

    if not online and output is None:
        raise click.UsageError("there is nothing to do: give an --output, or leave out --no-online")
    terminal = Terminal()
    request = BackfillRequest(
        "spark" if engine == "spark" else "local",
        online,
        output,
        since,
        until,
        work_dir,
        None,
        spark_master,
    )
    try:
        report = run(
            features_settings(data_dir),
            request,
            lambda step: terminal.progress(f"{step.stage} ({step.share:.0%})"),
        )
    except (LakeUnavailableError, StoreUnavailableError, OutputError, SparkMissingError) as error:
        raise click.ClickException(str(error)) from error
    finally:
        terminal.progress("")
    click.echo(
        f"read      {report.interactions:,} interactions"
        f" at version {report.lake_version} of the lake"
    )
    if online:
        click.echo(
            f"rebuilt   {report.visitors:,} visitors, {report.items:,} items,"
            " trending and the catalogue"
        )
    if output is not None:
        click.echo(f"wrote     {report.rows:,} training rows to {output}")
    click.echo(f"took      {report.seconds:.1f} s")
    write_json(json_path, {**asdict(report), "complete": report.complete})
    if not report.complete:
        raise click.ClickException(
            f"{report.visitors_left:,} visitors, {report.items_left:,} items"
            f"{' and trending' if report.trending_left else ''} are newer than the lake"
            " and were not replaced. Check that the features service writes the lake"
            " (its /health/ready), then run this again."
        )
