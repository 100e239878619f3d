"""Item patches: JSON merge patches of single attributes, which need no whole record.

A patch is a record on `catalog.v1`, in the partition of its item. Readers merge it where it stands
in the log (docs/adr/0060).
"""

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final

import orjson

from slipstream.contracts.events import CatalogRecord

# Most bytes of an item's attributes as JSON behind a patch: single patches are small, their sum
# need not be.
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
    """The key of a patch's record: its item's, and a digest of the paths that the patch sets.

    Compaction so drops a patch only for a later one of the same item that sets the same paths. That
    one would undo all that the dropped one had done.
    """
    paths = sorted(_paths(patch.attributes))
    text = orjson.dumps([patch.available is not None, paths])
    return f"item:{patch.entity_id}{KEY_SEPARATOR}{blake2b(text, digest_size=12).hexdigest()}"


def patched(item: CatalogRecord | None, patch: CatalogRecord) -> CatalogRecord | None:
    """The item's whole record behind a patch.

    None where the patch changes nothing: there is no such item, it is deleted, or its attributes
    would have more than `MAX_PATCHED_BYTES` bytes. A patch alone never makes an item: a late change
    of a price must not put back what the shop took away.
    """
    if item is None or item.deleted:
        return None
    attributes = merge_patch(item.attributes, patch.attributes)
    if len(orjson.dumps(attributes)) > MAX_PATCHED_BYTES:
        return None
    return item.model_copy(
        update={
            "attributes": attributes,
            "available": item.available if patch.available is None else patch.available,
            "timestamp": patch.timestamp,
            "source": patch.source,
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
