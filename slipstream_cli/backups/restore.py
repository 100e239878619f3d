"""Restoring of a backup into databases and the folder of models.

A restored database follows the erasures since the backup. The lake is not restored: it is checked
whether the versions that the backup names can still be read.
"""

import gzip
import json
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from services.monitoring.control.access_repository import AccessKeyBook
from services.monitoring.control.experiments_repository import ExperimentTable
from services.monitoring.control.named_records_repository import PlacementTable
from services.monitoring.people.repository import ErasureLedger
from services.training.mlflow_connection import MlflowConnection
from services.training.settings import TrainingSettings
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.broker.loop import read_to_end
from slipstream.chassis.dependencies import RefusedSettingsError
from slipstream.chassis.settings import KafkaSettings, LakeSettings
from slipstream.contracts.access import AccessKey
from slipstream.contracts.events import CatalogRecord, ErasedVisitors
from slipstream.contracts.experiments import Experiment
from slipstream.contracts.placements import Placement
from slipstream.contracts.times import DAY_MS, now_ms
from slipstream.contracts.topics import (
    ACCESS_KEYS,
    ERASED_VISITORS,
    EXPERIMENTS,
    PEOPLE,
    PLACEMENTS,
    Topic,
)
from slipstream.contracts.vocabulary import MERGED_INTO
from slipstream.stores import metadata, sql_rows
from slipstream.stores.lake_reader import LakeReader, LakeUnavailableError
from slipstream.stores.lease import Lease, LeaseHeldError
from slipstream.stores.migrations import migrate
from slipstream.stores.tables import CATALOG, ERASURES
from slipstream_cli.backups.manifest import BackupError, BackupManifest, LakePointer
from slipstream_cli.backups.places import (
    MIGRATIONS,
    MLFLOW,
    MODEL_FOLDERS,
    OURS,
    databases_of,
    mlflow_uri,
)

_LEDGER: Final = "monitoring_erasures"
_COLUMNS: Final = ("entity", "entity_id", "attributes", "deleted", "erasure_id")
Progress = Callable[[str], None]

# MLflow's columns with addresses of files.
_ADDRESSES: Final = ("artifact_location", "artifact_uri", "source", "storage_location")
_MLFLOW_REVISION: Final = "alembic_version"
# Tables with rows that can be lost. MLflow's other tables have rows from the start.
_FILLED_BY_MLFLOW: Final = ("model_versions", "runs")


class RestoreReport(NamedTuple):
    """What a restore has done: rows written, bundles copied, rows of erased visitors deleted.

    `keys`, `placements` and `experiments` are those that the topic knew better; None where the
    broker did not answer.
    """

    rows: int
    bundles: int
    erased_visitors: int
    erased_rows: int
    keys: int | None
    placements: int | None
    experiments: int | None


def restore(
    settings: TrainingSettings,
    folder: Path,
    manifest: BackupManifest,
    overwrite: bool,
    without_broker: bool,
    progress: Progress,
    each: Progress,
) -> RestoreReport:
    """Put a backup's rows and bundles in place of those that are there.

    Each database changes in one transaction, in which erasures since the backup are applied, too.
    Rows of an erased visitor are never visible.

    Args:
        folder: The backup, verified.
        overwrite: Replace what is there. Otherwise every database and the models must be empty.
        without_broker: Go on where the broker does not know of all erasures since the backup.
        progress: Gets each step.
        each: Gets each model.

    Raises:
        BackupError: A service runs, something is there, or the backup does not fit this program.
        DatabaseUnavailableError, LakeUnavailableError: A store does not answer.
    """
    if manifest.namespace != settings.namespace:
        raise BackupError(f"the backup is of namespace {manifest.namespace}")
    progress("access keys, placements, experiments and erasures on topics")
    told = _topics(settings, manifest, without_broker)
    progress("erasures in the lake")
    lake = LakeReader(settings.lake, settings.namespace)
    version = next((it.version for it in manifest.lake if it.table == CATALOG), None)
    followed = followed_erasures(folder, manifest)
    erased = erased_visitors(told.people, told.notices, lake, version, followed)
    requests = [it for it in told.people if it.deleted and it.erasure_id]
    done = done_erasures(lake) - followed
    databases = databases_of(settings)
    if {copy.folder for copy in manifest.databases} != databases.keys():
        raise BackupError(
            "MLflow's tables are in a database of their own here and not in the backup, or the"
            " other way round; SLIPSTREAM_TRAINING__TRACKING_URI decides"
        )
    with ExitStack() as stack:
        engine = metadata.engine(settings.database)
        stack.callback(engine.dispose)
        try:
            for migrations in MIGRATIONS.values():
                migrate(engine, migrations)
        except RefusedSettingsError as error:
            raise BackupError(str(error)) from error
        leases = [stack.enter_context(_held(service, settings, progress)) for service in MIGRATIONS]
        progress("MLflow's tables")
        root = settings.artifacts.directory.absolute()
        MlflowConnection(mlflow_uri(settings), root / "experiments", 0.0).open()
        engines = {OURS: engine}
        if MLFLOW in databases:
            engines[MLFLOW] = metadata.engine(databases[MLFLOW])
            stack.callback(engines[MLFLOW].dispose)
        for one in engines.values():
            _refuse_unfit(sql_rows.contents_of(one), manifest, overwrite)
            for lease in leases:
                lease.guard(one)
        bundles = _restore_models(folder / "models", root, overwrite, each)
        deleted = 0
        for copy in manifest.databases:
            progress(f"rows of {copy.folder}")
            tables = [table for table in copy.tables if _is_data(table.table)]
            change = _moved(Path(manifest.models_folder), root)
            try:
                deleted += sql_rows.replace_rows(
                    engines[copy.folder], folder / copy.folder, tables, change, live_wins, erased
                )
            except LookupError as error:
                raise BackupError(
                    f"{error}: the backup was made by another version ({manifest.program})"
                ) from error
        keys = placements = experiments = None
        if told.keys is not None:
            keys = AccessKeyBook(engine).take_in(told.keys)
            placements = PlacementTable(engine).take_in(told.placements)
            experiments = ExperimentTable(engine).take_in(told.experiments)
        ErasureLedger(engine, 0).take_in(requests, done, now_ms())
    return RestoreReport(
        manifest.rows, bundles, len(erased), deleted, keys, placements, experiments
    )


class TopicRecords(NamedTuple):
    """The newest access keys, None where the broker is unavailable; the newest placements and
    experiments; the records of people; the notices of erasures.
    """

    keys: list[AccessKey] | None
    placements: list[Placement]
    experiments: list[Experiment]
    people: list[CatalogRecord]
    notices: list[ErasedVisitors]


def records_of(kafka: KafkaSettings, namespace: str, topic: Topic) -> list[Any]:
    batches = read_to_end(kafka, namespace, topic)
    return [message.record for batch in batches for message in batch.messages]


def _topics(
    settings: TrainingSettings, manifest: BackupManifest, without_broker: bool
) -> TopicRecords:
    kept_ms = PEOPLE.retention_ms or 0
    try:
        keys, placements, experiments, people, notices = (
            records_of(settings.kafka, settings.namespace, topic)
            for topic in (ACCESS_KEYS, PLACEMENTS, EXPERIMENTS, PEOPLE, ERASED_VISITORS)
        )
        if now_ms() - manifest.taken_at < kept_ms or without_broker:
            newest = [*{key.digest: key for key in keys}.values()]
            return TopicRecords(newest, placements, experiments, people, notices)
        reason = f"{PEOPLE.name} keeps erasures for {kept_ms // DAY_MS} days: the backup is older"
    except BrokerUnavailableError as error:
        if without_broker:
            return TopicRecords(None, [], [], [], [])
        reason = f"{error}; where it is that of `slipstream up`, start this first"
    raise BackupError(
        f"{reason}. The erasures since the backup can't all be known; --without-broker restores"
        " all the same, and visitors that were erased may be back"
    )


def live_wins(table: str) -> bool:
    """Whether a table's present rows are truer than a backup's: keys, placements, experiments,
    alert rules, audit records, erasures.

    A key that was revoked since must not count again, no revision of a placement, an experiment or
    a rule may mean something else than it did, no notice may go out again, and no record of a deed
    may go. Those of erasures are `monitoring_erasures`, the ledger, `monitoring_erasure_visitors`
    and `monitoring_erasure_marks`.
    """
    kept = (
        "monitoring_access",
        "monitoring_placement",
        # Not the sums of an experiment's visitors: these go with how far they are counted.
        "monitoring_experiments",
        "monitoring_experiment_revisions",
        "monitoring_alert_rule",
        "monitoring_erasure",
    )
    return table.endswith("_audit") or table.startswith(kept)


@contextmanager
def _held(service: str, settings: TrainingSettings, progress: Progress) -> Iterator[Lease]:
    """The lease of a service, held for the block, so that no instance of it runs meanwhile."""
    engine = metadata.engine(settings.database)
    lease = Lease(service, settings.database.lease_s)
    deadline = time.monotonic() + 2 * settings.database.lease_s
    while True:
        try:
            lease.take(engine)
            break
        except LeaseHeldError as error:
            if time.monotonic() > deadline:
                raise BackupError(f"{error}: stop the service before a restore") from error
            progress(f"waiting: {error}")
            time.sleep(0.5)
    stop = threading.Event()
    keeping = threading.Thread(target=lease.keep, args=(stop,), daemon=True)
    keeping.start()
    try:
        yield lease
    finally:
        stop.set()
        keeping.join()
        lease.release()
        engine.dispose()


def _refuse_unfit(here: sql_rows.Contents, manifest: BackupManifest, overwrite: bool) -> None:
    for copy in manifest.databases:
        wanted = copy.revisions.get(_MLFLOW_REVISION)
        found = here.revisions.get(_MLFLOW_REVISION, wanted)
        if wanted and found != wanted:
            raise BackupError(
                f"MLflow's tables have revision {found} here and {wanted} in the backup: restore"
                f" with the version of the program that made it ({manifest.program}), then update"
            )
    filled = [
        table
        for table, rows in here.rows.items()
        if rows
        and _is_data(table)
        and (table.startswith(("training_", "monitoring_", "gate_")) or table in _FILLED_BY_MLFLOW)
    ]
    if filled and not overwrite:
        raise BackupError(
            f"there are rows in {', '.join(filled)}: --overwrite replaces what is there"
        )


def _is_data(table: str) -> bool:
    """Whether a table's rows are restored: not the lease, nor the revision of the schema, nor
    sessions, of which some have ended since.
    """
    return not table.endswith(("_lease", "_sessions")) and not sql_rows.is_revision(table)


def _moved(before: Path, after: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A function that changes the addresses of files in a row to those of another folder.

    Of alerts it drops the notices, which have gone out since.
    """

    def moved(row: dict[str, Any]) -> dict[str, Any]:
        changed = {
            name: row[name].replace(before.as_uri(), after.as_uri())
            for name in _ADDRESSES
            if isinstance(row.get(name), str)
        }
        unsent = {"unsent": ""} if "unsent" in row else {}
        return {**row, **changed, **unsent}

    return moved


def _restore_models(source: Path, root: Path, overwrite: bool, each: Progress) -> int:
    """Copy bundles, reports and MLflow's files; returns the number of bundles.

    A directory appears whole, as `Artifacts` makes them. Bundles that the backup lacks stay.
    """
    copied = 0
    for name in MODEL_FOLDERS:
        target = root / name
        if not overwrite and target.is_dir() and any(target.iterdir()) and name == "bundles":
            raise BackupError(f"there are bundles in {target}: --overwrite replaces what is there")
        target.mkdir(parents=True, exist_ok=True)
        for entry in sorted((source / name).glob("*")):
            each(f"models: {name}/{entry.name}")
            partial = target / f".{entry.name}.restored"
            shutil.rmtree(partial, ignore_errors=True)
            if entry.is_dir():
                shutil.copytree(entry, partial)
                shutil.rmtree(target / entry.name, ignore_errors=True)
            else:
                shutil.copy2(entry, partial)
            partial.replace(target / entry.name)
            copied += name == "bundles"
    return copied


class _Entry(NamedTuple):
    entity: str
    entity_id: str
    attributes: dict[str, str]
    deleted: bool
    erasure_id: str


def erased_visitors(
    people: Iterable[CatalogRecord],
    notices: Iterable[ErasedVisitors],
    lake: LakeReader,
    version: int | None,
    followed: Collection[str],
) -> set[str]:
    """The erased users and the visitors merged into them: their rows go.

    A backup's rows stood before the cut of every erasure that its ledger has not followed, whatever
    clocks say. So they go whole.

    Args:
        people: The records of `people.v1`, which keeps requests to erase for 30 days.
        notices: The records of `erased-visitors.v1`.
        lake: The lake, which keeps a request until it is done.
        version: The version of its catalogue at the backup, with links that are erased by now;
            None for none. It is left out where it can't be read any more.
        followed: The ids of the erasures that the backup's rows follow already.
    """
    entries = [
        _Entry(it.entity, it.entity_id, it.attributes, it.deleted, it.erasure_id) for it in people
    ]
    entries += _rows(lake, None)
    if version is not None:
        with suppress(LakeUnavailableError):
            entries += _rows(lake, version)
    users = {
        entry.entity_id
        for entry in entries
        if entry.entity == "user" and entry.deleted and entry.erasure_id not in followed
    }
    links = {
        (entry.entity_id, entry.attributes.get(MERGED_INTO, ""))
        for entry in entries
        if entry.entity == "identity" and not entry.deleted
    }
    erased = users | {visitor for visitor, user in links if user in users}
    for notice in notices:
        if notice.erasure_id not in followed:
            erased.update(notice.visitor_ids)
    return erased


def followed_erasures(folder: Path, manifest: BackupManifest) -> set[str]:
    """The erasures that the backup's rows follow: its ledger says that their rows were deleted."""
    found: set[str] = set()
    for database in manifest.databases:
        for copy in database.tables:
            if copy.table == _LEDGER:
                with gzip.open(folder / database.folder / copy.file, "rt") as lines:
                    rows = [json.loads(line) for line in lines]
                found |= {row["erasure_id"] for row in rows if row["deleted_at"] is not None}
    return found


def done_erasures(lake: LakeReader) -> set[str]:
    """The erasures that the lake has done."""
    return {
        erasure_id
        for batch in lake.scan(ERASURES, None, ("erasure_id",))
        for erasure_id in batch["erasure_id"].to_pylist()
    }


def _rows(lake: LakeReader, version: int | None) -> list[_Entry]:
    return [
        _Entry(entity, entity_id, json.loads(attributes or "{}"), deleted, erasure_id or "")
        for batch in lake.scan(CATALOG, version, _COLUMNS)
        for entity, entity_id, attributes, deleted, erasure_id in zip(
            *(batch[name].to_pylist() for name in _COLUMNS), strict=True
        )
        if entity != "item"
    ]


class LakeStanding(NamedTuple):
    """A table's version at the backup, whether it can be read, and the version now (None: no
    table).
    """

    pointer: LakePointer
    readable: bool
    reason: str
    newest: int | None


def lake_standings(settings: LakeSettings, manifest: BackupManifest) -> list[LakeStanding]:
    """The standing of each table of the lake that the backup names.

    Raises:
        LakeUnavailableError: Storage does not answer.
    """
    lake = LakeReader(settings, manifest.namespace)
    standings = []
    for pointer in manifest.lake:
        newest, reason = lake.version(pointer.table), ""
        if newest is None or newest < pointer.version:
            reason = "the lake has no such version: it is another lake, or an older copy of it"
        else:
            try:
                missing = lake.missing_files(pointer.table, pointer.version)
                if missing:
                    reason = f"{missing:,} of its files are gone, as VACUUM deletes them in time"
            except LakeUnavailableError as error:
                reason = str(error)
        standings.append(LakeStanding(pointer, not reason, reason, newest))
    return standings
