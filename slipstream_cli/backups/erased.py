"""Erasures that the lake knows of, which a restored database has to follow again."""

import json
from typing import Final

from slipstream.contracts.vocabulary import MERGED_INTO
from slipstream.stores.lake_reader import LakeReader
from slipstream.stores.tables import CATALOG

_COLUMNS: Final = ("entity", "entity_id", "attributes", "deleted", "timestamp")


def erased_visitors(lake: LakeReader) -> dict[str, int]:
    """The time (ms) of the last erasure of each erased user, and of the visitors merged into it.

    The lake keeps the requests to erase and the links between ids when it erases the rest. It is
    not restored, so that it knows of those since the backup.
    """
    erased: dict[str, int] = {}
    links: dict[str, str] = {}
    for batch in lake.scan(CATALOG, columns=_COLUMNS):
        for entity, entity_id, attributes, deleted, timestamp in zip(
            *(batch[name].to_pylist() for name in _COLUMNS), strict=True
        ):
            if entity == "user" and deleted:
                erased[entity_id] = max(timestamp, erased.get(entity_id, 0))
            elif entity == "identity" and not deleted:
                links[entity_id] = json.loads(attributes or "{}").get(MERGED_INTO, "")
    for visitor, user in links.items():
        if user in erased:
            erased[visitor] = max(erased[user], erased.get(visitor, 0))
    return erased
