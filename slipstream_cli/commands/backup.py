"""`slipstream backup`: SQL, models, and pointers into the lake, in a folder."""

from pathlib import Path

import click

from slipstream_cli.options import data_dir_option, each_line, json_out, write_json


@click.command(short_help="Back up SQL, models, keys and pointers into the lake.")
@click.argument("folder", type=click.Path(path_type=Path))
@data_dir_option(
    "Data folder of the stack that is backed up, where the environment names no other places."
)
@each_line
@json_out
def backup(folder: Path, data_dir: Path, verbose: bool, json_path: Path | None) -> None:
    """Back up SQL, models, keys and pointers into the lake, in a new FOLDER.

    Services may run meanwhile. All rows of the database are copied as of one moment (runs and
    decisions, alerts, access keys, placements, audit records, MLflow's registry), then the bundles
    of models, then the versions of the lake's tables. The lake itself is not copied, and Redis is
    rebuilt from it. FOLDER names visitors: keep it as you keep the database. SHA256SUMS in it can
    be checked by `sha256sum -c`.

    \b
    Example:  slipstream backup backups/2026-11-26
              kubectl exec deploy/training -- slipstream backup /tmp/backup
    """
    from slipstream.chassis.dependencies import DependencyUnavailableError
    from slipstream.contracts.times import format_time
    from slipstream_cli.backups.backup import back_up
    from slipstream_cli.backups.manifest import BackupError
    from slipstream_cli.backups.places import settings_of
    from slipstream_cli.local.terminal import Terminal
    from slipstream_cli.output import show_facts
    from slipstream_cli.peers import stack_on

    terminal = Terminal()
    try:
        each = terminal.progress if verbose else terminal.transient
        manifest = back_up(settings_of(data_dir, stack_on(data_dir)), folder, each)
    except (BackupError, DependencyUnavailableError) as error:
        raise click.ClickException(str(error)) from error
    finally:
        terminal.progress("")
    tables = sum(len(database.tables) for database in manifest.databases)
    show_facts(
        [
            ("backup", str(folder)),
            ("taken at", format_time(manifest.taken_at)),
            ("SQL", f"{manifest.rows:,} rows of {tables} tables"),
            ("bundles", f"{len(manifest.bundles):,}"),
            *(
                (f"lake {pointer.table}", f"version {pointer.version}, {pointer.rows:,} rows")
                for pointer in manifest.lake
            ),
        ]
    )
    write_json(json_path, manifest.model_dump())
