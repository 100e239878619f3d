"""Erasures that a restored database has to follow again."""

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.vocabulary import MERGED_INTO
from slipstream.stores.lake_reader import LakeReader, LakeUnavailableError
from slipstream.stores.tables import CATALOG

_COLUMNS: Final = ("entity", "entity_id", "attributes", "deleted", "timestamp")
# Entity, id, attributes, whether it is deleted, time (ms).
_Entry = tuple[str, str, dict[str, str], bool, int]


def erased_visitors(
    people: Iterable[CatalogRecord], lake: LakeReader, version: int | None
) -> dict[str, int]:
    """The time (ms) of the last erasure of each erased user, and of the visitors merged into it.

    Args:
        people: The records of `people.v1`, which keeps requests to erase for 30 days.
        lake: The lake, which keeps a request until it is done.
        version: The version of its catalogue at the backup, with links that are erased by now;
            None for none. It is left out where it can't be read any more.
    """
    entries: list[_Entry] = [
        (it.entity, it.entity_id, it.attributes, it.deleted, it.timestamp) for it in people
    ]
    entries += _rows(lake, None)
    if version is not None:
        with suppress(LakeUnavailableError):
            entries += _rows(lake, version)
    erased: dict[str, int] = {}
    for entity, entity_id, _, deleted, timestamp in entries:
        if entity == "user" and deleted:
            erased[entity_id] = max(timestamp, erased.get(entity_id, 0))
    links = {
        (entity_id, attributes.get(MERGED_INTO, ""))
        for entity, entity_id, attributes, deleted, _ in entries
        if entity == "identity" and not deleted
    }
    users = dict(erased)
    for visitor, user in links:
        if user in users:
            erased[visitor] = max(users[user], erased.get(visitor, 0))
    return erased


def _rows(lake: LakeReader, version: int | None) -> list[_Entry]:
    return [
        (entity, entity_id, json.loads(attributes or "{}"), deleted, timestamp)
        for batch in lake.scan(CATALOG, version, _COLUMNS)
        for entity, entity_id, attributes, deleted, timestamp in zip(
            *(batch[name].to_pylist() for name in _COLUMNS), strict=True
        )
        if entity != "item"
    ]
