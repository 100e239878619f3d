"""`slipstream restore`: a backup into the database and the folder of models."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipstream_cli.options import data_dir_option, each_line, json_out, write_json

if TYPE_CHECKING:
    from slipstream_cli.backups.restore import LakeStanding


@click.command(short_help="Restore a backup, and apply the erasures since.")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace existing rows and bundles. Default: refuse if there are any.",
)
@click.option(
    "--check", is_flag=True, help="Only check the backup's files and the lake; change nothing."
)
@click.option(
    "--without-broker",
    is_flag=True,
    help="Restore even if the broker does not have all erasures since the backup."
    " Default: refuse, since erased visitors could come back.",
)
@data_dir_option(
    "Data folder of the stack that is restored, where the environment names no other places."
)
@each_line
@json_out
def restore(
    folder: Path,
    overwrite: bool,
    check: bool,
    without_broker: bool,
    data_dir: Path,
    verbose: bool,
    json_path: Path | None,
) -> None:
    """Restore the backup in FOLDER into the database and the folder of models.

    A stack of `slipstream up` must run: it stops training and monitoring for the restore. Of any
    other, stop them first: a restore takes their leases, and refuses while they run.
    Each database changes in one transaction, which also deletes erased visitors again. people.v1
    and the lake list erasures, including those after the backup, so the broker must answer.
    Existing access keys, placements, experiments, audit records and erasure receipts stay. The
    newest records of access-keys.v1, placements.v1 and experiments.v1 are applied, so no revoked
    key works again, and rules stay as they are now.

    The lake is not changed. The restore checks that the backup's versions of it can still be read.
    Rebuild Redis from the lake afterwards, with `slipstream backfill`.

    \b
    Example:  slipstream restore backups/2026-11-26 --check
              slipstream restore backups/2026-11-26
              slipstream restore backups/2026-11-26 --overwrite
    """
    from slipstream.chassis.dependencies import DependencyUnavailableError
    from slipstream.contracts.times import format_time
    from slipstream_cli.backups.manifest import BackupError, verified
    from slipstream_cli.backups.places import settings_of
    from slipstream_cli.backups.restore import lake_standings
    from slipstream_cli.backups.restore import restore as run
    from slipstream_cli.local.data_folder import services_stopped
    from slipstream_cli.local.terminal import Terminal
    from slipstream_cli.output import show_facts
    from slipstream_cli.peers import stack_on

    terminal, stack = Terminal(), stack_on(data_dir)
    settings = settings_of(data_dir, stack)
    # The environment may name another database.
    is_of_stack = stack.get("database") == settings.database.url.get_secret_value()
    report = None
    each = terminal.progress if verbose else terminal.transient
    try:
        manifest = verified(folder, lambda name: each(f"checksum of {name}"))
        lake = lake_standings(settings.lake, manifest)
        if not check:
            shown = (terminal.progress, each)
            with services_stopped(data_dir) if is_of_stack else nullcontext():
                report = run(settings, folder, manifest, overwrite, without_broker, *shown)
    except (BackupError, DependencyUnavailableError) as error:
        raise click.ClickException(str(error)) from error
    finally:
        terminal.progress("")
    facts = [
        ("backup", f"{folder}, taken at {format_time(manifest.taken_at)}"),
        ("files", "all there, with the checksums of the backup"),
        *((f"lake {it.pointer.table}", _standing(it)) for it in lake),
    ]
    if report is not None:
        facts += [
            ("restored", f"{report.rows:,} rows, {report.bundles:,} bundles"),
            (
                "erased",
                f"{report.erased_rows:,} rows of {report.erased_visitors:,} visitors that asked",
            ),
            ("keys", _from_topic(report.keys, "revoke again what was revoked")),
            ("placements", _from_topic(report.placements, "set again what was set")),
            ("experiments", _from_topic(report.experiments, "set again what was set")),
            (
                "next",
                ("" if is_of_stack else "start training and monitoring; ")
                + "`slipstream backfill` if Redis is lost, too",
            ),
        ]
    show_facts(facts)
    write_json(
        json_path,
        {
            "taken_at": manifest.taken_at,
            "lake": [{**it.pointer.model_dump(), "readable": it.readable} for it in lake],
            "restored": report._asdict() if report else None,
        },
    )


def _from_topic(known_better: int | None, otherwise: str) -> str:
    if known_better is None:
        return f"the broker does not answer: {otherwise} since the backup"
    return f"{known_better:,} newer ones taken from the topic"


def _standing(it: "LakeStanding") -> str:
    version = f"version {it.pointer.version}"
    if not it.readable:
        return f"{version} can't be read: {it.reason}"
    return f"{version} can be read; the newest is {it.newest}"
