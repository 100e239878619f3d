"""Making of a backup."""

import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from services.training.settings import TrainingSettings
from slipstream.contracts.times import now_ms
from slipstream.stores.lake_reader import LakeReader
from slipstream.stores.sql_rows import contents, copy_rows, snapshot
from slipstream.stores.tables import SCHEMAS
from slipstream_cli.backups.manifest import (
    BackupError,
    BackupManifest,
    DatabaseCopy,
    LakePointer,
    seal,
)
from slipstream_cli.backups.places import MODEL_FOLDERS, databases_of

Progress = Callable[[str], None]


def back_up(settings: TrainingSettings, target: Path, progress: Progress) -> BackupManifest:
    """Make a backup in a folder that does not exist yet. It appears whole or not at all.

    Raises:
        BackupError: The folder exists, or can't be written.
        DatabaseUnavailableError, LakeUnavailableError: A store does not answer.
    """
    if target.exists():
        raise BackupError(f"{target} exists; a backup is made in a new folder")
    partial = target.with_name(f".{target.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        partial.chmod(0o700)  # it names visitors, and holds the digests of keys
        manifest = _copy(settings, partial, progress)
        seal(partial, manifest, lambda name: progress(f"checksum of {name}"))
        partial.rename(target)
    except OSError as error:
        raise BackupError(f"the backup can't be written: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def _copy(settings: TrainingSettings, folder: Path, progress: Progress) -> BackupManifest:
    taken_at = now_ms()
    # Ours first: a decision names a version that MLflow then knows.
    databases = []
    for name, database in databases_of(settings).items():
        with snapshot(database, folder) as connection:
            copies = copy_rows(connection, folder / name, lambda table: progress(f"table {table}"))
            found = contents(connection).revisions
        databases.append(DatabaseCopy(folder=name, tables=copies, revisions=found))
    root = settings.artifacts.directory.absolute()
    for name in MODEL_FOLDERS:
        progress(f"models: {name}")
        # A bundle that is deleted meanwhile is an old one that the registry has let go.
        _copy_folder(root / name, folder / "models" / name)
    bundles = folder / "models" / "bundles"
    return BackupManifest(
        taken_at=taken_at,
        namespace=settings.namespace,
        program=version("slipstream"),
        models_folder=str(root),
        databases=databases,
        bundles=sorted(path.name for path in bundles.iterdir()) if bundles.is_dir() else [],
        lake=_pointers(LakeReader(settings.lake, settings.namespace), progress),
    )


def _pointers(lake: LakeReader, progress: Progress) -> list[LakePointer]:
    pointers = []
    for table in SCHEMAS:
        progress(f"lake: {table}")
        newest = lake.version(table)
        if newest is not None:
            rows = lake.count(table, newest)
            pointers.append(LakePointer(table=table, version=newest, rows=rows))
    return pointers


def _copy_folder(source: Path, target: Path) -> None:
    """Copy what is below a folder, without half-written files and what goes meanwhile."""
    if not source.is_dir():
        return
    target.mkdir(parents=True, exist_ok=True)
    for entry in sorted(source.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            try:
                shutil.copytree(entry, target / entry.name)
            except shutil.Error:
                if entry.exists():
                    raise
                shutil.rmtree(target / entry.name, ignore_errors=True)
        elif entry.is_file():
            shutil.copy2(entry, target / entry.name)
