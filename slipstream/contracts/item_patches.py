"""Patches: JSON merge patches of single attributes of an item or a user, without a whole record.

A patch is a record in the partition of its item on `catalog.v1`, or of its user on `people.v1`.
Readers merge it where it stands in the log (docs/adr/0060, 0080).
"""

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final

import orjson

from slipstream.contracts.events import CatalogRecord

# What a patch changes, by the name of its records.
PATCHED_ENTITY: Final = {"item_patch": "item", "user_patch": "user"}
# Most bytes of attributes as JSON behind a patch: single patches are small, their sum need not be.
MAX_PATCHED_BYTES: Final = 65_536
# Parts a record's key from what tells its patches apart; no id has this character.
KEY_SEPARATOR: Final = "\x00"


def merge_patch(target: Any, patch: Mapping[str, Any]) -> dict[str, Any]:
    """Merge a patch into a value by RFC 7396: null removes a member, objects merge, others replace.

    A target that is no object counts as an empty one. Neither argument is changed.
    """
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping):
            merged[name] = merge_patch(merged.get(name), value)
        else:
            merged[name] = value
    return merged


def patch_key(patch: CatalogRecord) -> str:
    """The key of a patch's record: its entity's, and a digest of the paths that the patch sets.

    Compaction so drops a patch only for a later one of the same entity that sets the same paths.
    That one would undo all that the dropped one had done.
    """
    paths = sorted(_paths(patch.attributes))
    text = orjson.dumps([patch.available is not None, paths])
    entity = PATCHED_ENTITY[patch.entity]
    return f"{entity}:{patch.entity_id}{KEY_SEPARATOR}{blake2b(text, digest_size=12).hexdigest()}"


def patched(whole: CatalogRecord | None, patch: CatalogRecord) -> CatalogRecord | None:
    """The whole record of the item or user behind a patch.

    None where the patch changes nothing: there is no such item or user, it is deleted, or its
    attributes would have more than `MAX_PATCHED_BYTES` bytes. A patch alone never makes one: a late
    change of a price must not put back what the shop took away.
    """
    if whole is None or whole.deleted:
        return None
    attributes = merge_patch(whole.attributes, patch.attributes)
    if len(orjson.dumps(attributes)) > MAX_PATCHED_BYTES:
        return None
    return whole.model_copy(
        update={
            "attributes": attributes,
            "available": whole.available if patch.available is None else patch.available,
            "timestamp": patch.timestamp,
            "source": patch.source,
            "by_browser": patch.by_browser,
            "client_time": False,
            "appeared_at": None,
        }
    )


def _paths(patch: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """The paths of a patch: one for each value that is no object, and for each empty object.

    That of an empty object ends with "": it makes an object there and leaves its members.
    """
    for name, value in patch.items():
        if isinstance(value, Mapping) and value:
            yield from ((name, *path) for path in _paths(value))
        else:
            yield (name, "") if isinstance(value, Mapping) else (name,)
