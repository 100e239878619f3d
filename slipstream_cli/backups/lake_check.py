"""The check whether the versions of the lake that a backup names can still be read."""

from typing import NamedTuple

from slipstream.chassis.settings import LakeSettings
from slipstream.stores.lake_reader import LakeReader, LakeUnavailableError
from slipstream_cli.backups.manifest import BackupManifest, LakePointer


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
