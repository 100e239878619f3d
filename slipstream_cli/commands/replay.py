"""`slipstream replay`: send an interaction file through ingestion."""

from dataclasses import asdict
from pathlib import Path

import click

from slipstream_cli.options import data_dir, existing_file, json_out, write_json


@click.command(short_help="Send an interaction file through ingestion.")
@click.argument("file", type=existing_file)
@click.option(
    "--items",
    type=existing_file,
    help="File of items (item_id and attributes), sent first. Default: none.",
)
@click.option(
    "--url",
    help="URL of ingestion. Default: that of the stack running on the data folder,"
    " or port 8001 of this machine.",
)
@click.option("--write-key", help="Write key to send with. Default: that stack's, or dev.")
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
@data_dir
@json_out
def replay(
    file: Path,
    items: Path | None,
    url: str | None,
    write_key: str | None,
    speed: float | None,
    batch_size: int,
    data_dir: Path,
    json_path: Path | None,
) -> None:
    """Send an interaction file (Parquet or CSV, also compressed) through ingestion's REST API.

    The file has the columns user_id, item_id and timestamp (ms), optionally event_type and value.
    Further columns become properties.

    \b
    Example:  slipstream replay events.csv.gz --items items.csv --speed 60
    """
    from slipstream_cli.local.data_folder import running_stack
    from slipstream_cli.local.terminal import Terminal

    running = running_stack(data_dir)
    url = url or running.get("ingestion", "http://127.0.0.1:8001")
    key = write_key or running.get("write_key", "dev")
    from slipstream.datasets.interactions import InteractionFileError
    from slipstream.datasets.replay import ReplayError
    from slipstream.datasets.replay import replay as send

    progress = Terminal().bar()
    try:
        report = send(
            file,
            url=url,
            write_key=key,
            items=items,
            speed=speed,
            batch_size=batch_size,
            progress=progress,
        )
    except (InteractionFileError, ReplayError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(
        f"accepted    {report.accepted:,}\nduplicates  {report.duplicates:,}\n"
        f"rejected    {report.rejected:,}"
    )
    for code, count in report.rejected_by_code.most_common():
        click.echo(f"  {code}: {count:,}")
    if items:
        click.echo(f"items       {report.items:,} accepted, {report.items_rejected:,} rejected")
    click.echo(f"{report.events_per_s:,.0f} events/s over {report.seconds:.1f} s")
    write_json(json_path, {**asdict(report), "events_per_s": report.events_per_s})
    features_url = running.get("features", "http://127.0.0.1:8002")
    click.echo(f"Next: curl {features_url}/v1/status shows how many of them features has applied.")
