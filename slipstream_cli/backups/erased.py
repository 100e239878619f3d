"""Erasures that a restored database has to follow again."""

import gzip
import json
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from slipstream.contracts.events import CatalogRecord, ErasedVisitors
from slipstream.contracts.vocabulary import MERGED_INTO
from slipstream.stores.lake_reader import LakeReader, LakeUnavailableError
from slipstream.stores.tables import CATALOG, ERASURES
from slipstream_cli.backups.manifest import BackupManifest

# Later than any time: every row of the visitor goes.
EVER: Final = 2**63 - 1
_LEDGER: Final = "monitoring_erasures"
_COLUMNS: Final = ("entity", "entity_id", "attributes", "deleted", "timestamp", "erasure_id")


class _Entry(NamedTuple):
    entity: str
    entity_id: str
    attributes: dict[str, str]
    deleted: bool
    timestamp: int
    erasure_id: str


def erased_visitors(
    people: Iterable[CatalogRecord],
    notices: Iterable[ErasedVisitors],
    lake: LakeReader,
    version: int | None,
    followed: Collection[str],
) -> dict[str, int]:
    """The time (ms) up to which rows go, by erased user and visitor merged into it.

    A backup's rows stood before the cut of every erasure that its ledger has not followed, whatever
    clocks say. So they go whole (`EVER`). Only an erasure without an id, by an older program, goes
    by its time.

    Args:
        people: The records of `people.v1`, which keeps requests to erase for 30 days.
        notices: The records of `erased-visitors.v1`.
        lake: The lake, which keeps a request until it is done.
        version: The version of its catalogue at the backup, with links that are erased by now;
            None for none. It is left out where it can't be read any more.
        followed: The ids of the erasures that the backup's rows follow already.
    """
    entries = [
        _Entry(it.entity, it.entity_id, it.attributes, it.deleted, it.timestamp, it.erasure_id)
        for it in people
    ]
    entries += _rows(lake, None)
    if version is not None:
        with suppress(LakeUnavailableError):
            entries += _rows(lake, version)
    erased: dict[str, int] = {}
    for entry in entries:
        if entry.entity == "user" and entry.deleted and entry.erasure_id not in followed:
            until = EVER if entry.erasure_id else entry.timestamp
            erased[entry.entity_id] = max(until, erased.get(entry.entity_id, 0))
    links = {
        (entry.entity_id, entry.attributes.get(MERGED_INTO, ""))
        for entry in entries
        if entry.entity == "identity" and not entry.deleted
    }
    users = dict(erased)
    for visitor, user in links:
        if user in users:
            erased[visitor] = max(users[user], erased.get(visitor, 0))
    for notice in notices:
        if notice.erasure_id not in followed:
            erased |= dict.fromkeys(notice.visitor_ids, EVER)
    return erased


def followed_erasures(folder: Path, manifest: BackupManifest) -> set[str]:
    """The erasures that the backup's rows follow: its ledger says that their rows were deleted.

    None in a backup of a program without that ledger.
    """
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
        _Entry(
            entity, entity_id, json.loads(attributes or "{}"), deleted, timestamp, erasure_id or ""
        )
        for batch in lake.scan(CATALOG, version, _COLUMNS)
        for entity, entity_id, attributes, deleted, timestamp, erasure_id in zip(
            *(batch[name].to_pylist() for name in _COLUMNS), strict=True
        )
        if entity != "item"
    ]
