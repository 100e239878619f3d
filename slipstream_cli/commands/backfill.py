"""`slipstream backfill`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipstream.contracts.times import parse_iso
from slipstream_cli.local.plan import EXTERNAL
from slipstream_cli.options import data_dir_option

if TYPE_CHECKING:
    from services.features.settings import FeaturesSettings

_LAKE = "SLIPSTREAM_LAKE__URI"


def _moment(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    try:
        return parse_iso(value)
    except ValueError as error:
        raise click.BadParameter(
            f"{value!r} is no ISO 8601 time, like 2026-11-24 or 2026-11-24T08:00"
        ) from error


@click.command(short_help="Rebuild the online store from the lake, and write training rows.")
@click.option(
    "--engine",
    type=click.Choice(["local", "spark"]),
    default="local",
    show_default=True,
    help="Who folds history.",
)
@click.option(
    "--online/--no-online", default=True, show_default=True, help="Rebuild the online store."
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder for training rows (Parquet), replaced as a whole.",
)
@click.option(
    "--since", callback=_moment, metavar="TIME", help="Rows of events from then on (ISO 8601, UTC)."
)
@click.option("--until", callback=_moment, metavar="TIME", help="Rows of events before that.")
@click.option(
    "--work-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="For what does not fit into memory; without it, the system's folder for temporary files.",
)
@click.option(
    "--spark-master",
    default="local[*]",
    show_default=True,
    help="Spark's master, for --engine spark.",
)
@data_dir_option(
    "The folder of the stack whose lake and store these are, where the environment does not name others."
)
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write JSON here.",
)
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
    """Fold the whole history again, by the functions that fold the stream: visitors, items,
    trending and the catalogue into the online store, and a training row for each event on an item,
    with all features as they were just before it.

    Services may run meanwhile; asking again is always safe. A state that is ahead of the lake is
    replaced when the lake has come to it, for which the features service pauses some seconds at the
    end.

    \b
    Example:  slipstream backfill
              slipstream backfill --no-online --output rows --since 2026-11-01
    """
    import json
    from dataclasses import asdict

    from services.features.history.backfill import BackfillRequest
    from services.features.history.backfill import backfill as run
    from services.features.history.spark_engine import SparkMissingError
    from services.features.history.training_files import OutputError
    from slipstream.stores.lake import LakeUnavailableError
    from slipstream.stores.online import StoreUnavailableError
    from slipstream_cli.local.terminal import Terminal

    if not online and output is None:
        raise click.UsageError("there is nothing to do: name an --output, or leave out --no-online")
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
            _settings(data_dir),
            request,
            lambda what, done: terminal.progress(f"{what} ({done:.0%})"),
        )
    except (LakeUnavailableError, StoreUnavailableError, OutputError, SparkMissingError) as error:
        raise click.ClickException(str(error)) from error
    finally:
        terminal.progress("")
    click.echo(
        f"read      {report.interactions:,} interactions at version {report.lake_version} of the lake"
    )
    if online:
        click.echo(
            f"rebuilt   {report.visitors:,} visitors, {report.items:,} items, trending and the catalogue"
        )
    if output is not None:
        click.echo(f"wrote     {report.rows:,} training rows to {output}")
    click.echo(f"took      {report.seconds:.1f} s")
    if json_path:
        json_path.write_text(
            json.dumps({**asdict(report), "complete": report.complete}, indent=2) + "\n",
            encoding="utf-8",
        )
    if not report.complete:
        raise click.ClickException(
            f"{report.visitors_left:,} visitors, {report.items_left:,} items"
            f"{' and trending' if report.trending_left else ''} are ahead of the lake and stay as they were: does the features "
            "service write the lake (its /health/ready)? Then run this again."
        )


def _settings(data_dir: Path) -> "FeaturesSettings":
    """The features service's settings: of the environment, and where that names no servers, of the
    stack on the data folder.
    """
    from pydantic import SecretStr, ValidationError

    from services.features.settings import FeaturesSettings
    from slipstream_cli.local.data_folder import running_stack

    try:
        settings = FeaturesSettings()
    except ValidationError as error:
        raise click.ClickException(f"settings: {error}") from error
    changed: dict[str, object] = {}
    running = running_stack(data_dir)
    if EXTERNAL["valkey"] not in os.environ and "redis" in running:
        changed["redis"] = settings.redis.model_copy(update={"url": SecretStr(running["redis"])})
    if _LAKE not in os.environ:
        changed["lake"] = settings.lake.model_copy(update={"uri": str(data_dir / "lake")})
    return settings.model_copy(update=changed)
