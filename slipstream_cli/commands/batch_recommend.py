"""`slipstream batch-recommend`: write the lists of every visitor, by the champion."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipstream_cli.options import data_dir_option, existing_file, json_out, write_json
from slipstream_cli.peers import environment_settings, peer_of

if TYPE_CHECKING:
    from slipstream.recommender.bundle import Bundle
    from slipstream.stores.lake import Lake

_LAKE = "SLIPSTREAM_LAKE__URI"
# Visitors between two lines of progress.
_TOLD = 5_000


@click.command("batch-recommend", short_help="Write the lists of every visitor, by the champion.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    required=True,
    help="File that the lists are written to (Parquet), replaced as a whole.",
)
@click.option(
    "--n",
    type=click.IntRange(1, 100),
    default=10,
    show_default=True,
    help="Items in each list; fewer if no more may be shown.",
)
@click.option(
    "--interactions",
    type=existing_file,
    help="File of interactions; its visitors get lists. Default: all visitors of the lake.",
)
@click.option(
    "--bundle",
    "directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of a model bundle that makes the lists. Default: training's champion.",
)
@click.option(
    "--filter",
    "expression",
    default="",
    help="Condition on attributes that every item meets, such as 'price < 100'. Default: none.",
)
@click.option(
    "--work-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder for data that does not fit into memory."
    " Default: the system's folder for temporary files.",
)
@click.option("--url", help="URL of training. Default: that of the stack on the data folder.")
@data_dir_option("Data folder of the stack with the lake and the champion.")
@json_out
def batch_recommend(
    out: Path,
    n: int,
    interactions: Path | None,
    directory: Path | None,
    expression: str,
    work_dir: Path | None,
    url: str | None,
    data_dir: Path,
    json_path: Path | None,
) -> None:
    """Write the best items of every visitor to a file, for newsletters and other channels.

    The file has user_id, rank, item_id, score, source and model_version, ordered by rank for each
    visitor. Histories are those that serving would read: the latest 100 events. A visitor gets
    popular items if the model knows none of the items in the history. Items that are deleted,
    unavailable or expired by the lake's catalogue are left out. No list counts as an impression.

    \b
    Example:  slipstream batch-recommend --out lists.parquet
              slipstream batch-recommend --out lists.parquet --n 20 --filter 'price < 100'
              slipstream batch-recommend --out lists.parquet --interactions events.parquet
    """
    from services.features.history.lake_snapshot import LakeSnapshot
    from services.features.history.people import erase_waiting
    from slipstream.datasets.interactions import InteractionFileError, read_interactions
    from slipstream.recommender.bundle import BundleError, load_bundle
    from slipstream.stores.artifacts import ForeignFileError
    from slipstream.stores.lake import LakeUnavailableError
    from slipstream_cli.batch import (
        FilterError,
        events_of_file,
        events_of_lake,
        histories,
        listed,
        write_lists,
    )
    from slipstream_cli.local.terminal import Terminal

    terminal, begun = Terminal(), time.monotonic()
    try:
        if directory is not None:
            bundle = load_bundle(directory)
            version = bundle.version
        else:
            bundle, version = _champion(url, data_dir)
        terminal.progress("reading the lake")
        lake = _lake(data_dir)
        if interactions is None:
            erase_waiting(lake)
        snapshot = LakeSnapshot(lake, ())
        allowed = listed(bundle, snapshot.entries.values(), expression)
        if interactions is not None:
            tables = events_of_file(read_interactions(interactions))
        else:
            tables = events_of_lake(snapshot, work_dir)
        visitors = write_lists(
            out,
            bundle,
            version,
            (each for table in tables for each in histories(bundle, table)),
            n,
            allowed,
            lambda done: terminal.progress(f"{done - done % _TOLD:,} visitors"),
        )
    except (
        BundleError,
        FilterError,
        ForeignFileError,
        InteractionFileError,
        LakeUnavailableError,
        OSError,
    ) as error:
        raise click.ClickException(str(error)) from error
    finally:
        terminal.progress("")
    seconds = time.monotonic() - begun
    click.echo(f"model     version {version}")
    click.echo(f"wrote     the lists of {visitors:,} visitors to {out}")
    click.echo(f"took      {seconds:.1f} s, {visitors / seconds:,.0f} visitors a second")
    write_json(
        json_path, {"model_version": version, "visitors": visitors, "seconds": round(seconds, 3)}
    )


def _lake(data_dir: Path) -> "Lake":
    """The lake that the environment names, else that of the stack on the data folder."""
    from slipstream.stores.lake import Lake

    settings = environment_settings()
    lake = settings.lake
    if _LAKE not in os.environ:
        lake = lake.model_copy(update={"uri": str(data_dir / "lake")})
    return Lake(lake, settings.namespace)


def _champion(url: str | None, data_dir: Path) -> "tuple[Bundle, str]":
    """The champion's bundle and version, fetched from training and verified."""
    import tempfile

    from slipstream.chassis.client import PeerError
    from slipstream.contracts.rest import ModelVersion
    from slipstream.contracts.vocabulary import CHAMPION
    from slipstream.recommender.bundle import load_bundle
    from slipstream.stores.artifacts import fetch_files, fetched_manifest

    with (
        peer_of("training", url, data_dir) as training,
        tempfile.TemporaryDirectory(prefix="slipstream-champion-") as name,
    ):
        folder = Path(name)
        try:
            alias = training.get(f"/v1/aliases/{CHAMPION}")
            version = ModelVersion.model_validate(alias).version
            manifest = fetched_manifest(training, version, folder)
            fetch_files(training, version, manifest, folder)
            # Its arrays are mapped, and stay readable after the folder is gone.
            return load_bundle(folder), version
        except PeerError as error:
            raise click.ClickException(
                f"there is no champion to make lists with: {error}"
            ) from error
