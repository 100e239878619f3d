"""Catalogue entries in Redis: the newest record of each entity, and an index of ids."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.item_patches import PATCHED_ENTITY, patched
from slipstream.contracts.positions import Position, StreamCatalogRecord
from slipstream.contracts.times import DAY_MS
from slipstream.stores import layout
from slipstream.stores.connection import Call, Scripts
from slipstream.stores.layout import Keys

# Time that a deletion is kept, so that reading an older upsert again does not bring the entry back.
TOMBSTONE_TTL_MS: Final = 30 * DAY_MS
_CHUNK: Final = 500
# Fields with the position of a patched user's last whole record.
_BASE: Final = ("base_source", "base_offset")


@dataclass(slots=True)
class CatalogPut:
    """Result of entries that were put, by their positions.

    Attributes:
        refused: traits that a page sent of a user that a server has described.
        patched: the whole items and users that patches led to.
        missed: patches that changed nothing, for want of an item or user, or for its size.
        bases: where the last whole record of a patched user stands.
    """

    refused: set[Position] = field(default_factory=set)
    patched: dict[Position, CatalogRecord] = field(default_factory=dict)
    missed: set[Position] = field(default_factory=set)
    bases: dict[Position, Position] = field(default_factory=dict)


class CatalogEntries:
    """The entries, for one writer. Methods raise what Redis and its client raise."""

    def __init__(self, client: Any, scripts: Scripts, keys: Keys, user_ttl_ms: int) -> None:
        self._redis, self._scripts, self._keys = client, scripts, keys
        self._user_ttl_ms = user_ttl_ms

    def put(self, entries: Sequence[StreamCatalogRecord]) -> CatalogPut:
        """Keep each record, unless a newer one of its entity is kept; deletions as tombstones.

        A patch is merged into what is kept of its item or user. Only the reader of its partition
        puts these records, in their order, so that no other writer changes it in between.
        """
        result = CatalogPut()
        wanted = {
            (PATCHED_ENTITY[each.record.entity], each.record.entity_id)
            for each in entries
            if each.record.entity in PATCHED_ENTITY
        }
        held = self._held(wanted, result) if wanted else {}
        records = with_patched(entries, held, result) if wanted else entries
        # The index is in another slot than the entries, so it is written first. On a cluster it may
        # be lost alone: then both are written again.
        self._index([record for _, _, record in records])
        if any(record.entity == "user" and not record.by_browser for _, _, record in records):
            # No page may link whom a server names from now on. So the links so far have to stay.
            self._scripts.settle()
        kept = self._scripts.run(
            "put_newer",
            [
                Call(
                    [self._keys.catalog(record.entity, record.entity_id)],
                    [
                        record.model_dump_json(),
                        record.timestamp,
                        source,
                        offset,
                        self._ttl_ms(record),
                        int(record.by_browser),
                        # After an erasure a new visitor begins.
                        int(record.by_browser or record.deleted),
                        int(record.client_time),
                        _appeared_at(record),
                        *result.bases.get(Position(source, offset), ("", "")),
                    ],
                )
                for source, offset, record in records
            ],
        )
        result.refused.update(
            Position(source, offset)
            for (source, offset, _), answer in zip(records, kept, strict=True)
            if answer == 2
        )
        return result

    def items(self) -> Iterator[StreamCatalogRecord]:
        """The items' records with their positions, each once, in no order.

        Entries that change meanwhile may be missed. Tombstones are among them.
        """
        cursor, seen = -1, set[bytes]()
        while cursor != 0:
            cursor, ids = self._redis.sscan(
                self._keys.catalog_index("item"), cursor=max(cursor, 0), count=_CHUNK
            )
            fresh = [item_id for item_id in ids if item_id not in seen]
            seen.update(fresh)
            pipeline = self._redis.pipeline(transaction=False)
            for item_id in fresh:
                key = self._keys.catalog("item", item_id.decode())
                pipeline.hmget(key, "source", "offset", "record", "appeared")
            for source, offset, value, appeared in pipeline.execute():
                record = layout.decode_catalog(value)
                if record is not None:
                    if appeared:
                        record = record.model_copy(update={"appeared_at": int(appeared)})
                    yield StreamCatalogRecord(source.decode(), int(offset), record)

    def erase(self, user_ids: Sequence[str], ends: Mapping[str, int]) -> None:
        """Erase what users' entries hold from before these ends; later entries stay.

        The ends are kept, so that an entry from before them is refused when it is read late.
        """
        self._scripts.run(
            "erase_entry",
            [
                Call(
                    [self._keys.catalog("user", user_id)],
                    [orjson.dumps(dict(ends)), TOMBSTONE_TTL_MS],
                )
                for user_id in user_ids
            ],
        )
        self._redis.srem(self._keys.catalog_index("user"), *user_ids)

    def forget_erasures(self, user_ids: Sequence[str]) -> None:
        """Delete what remembers the erasures of these users, once nothing older can be read."""
        self._scripts.run(
            "forget_erasure", [Call([self._keys.catalog("user", name)], []) for name in user_ids]
        )

    def erased_before(self, user_ids: Sequence[str]) -> dict[str, dict[str, int]]:
        """The ends of the erasures that are remembered, by user."""
        pipeline = self._redis.pipeline(transaction=False)
        for user_id in user_ids:
            pipeline.hget(self._keys.catalog("user", user_id), "erased_before")
        return {
            user_id: orjson.loads(value)
            for user_id, value in zip(user_ids, pipeline.execute(), strict=True)
            if value is not None
        }

    def said_by_server(self, user_id: str) -> bool:
        """Whether a server has sent something of this user, its deletion included."""
        record = self._record("user", user_id)
        return record is not None and not record.by_browser

    def _held(
        self, wanted: Collection[tuple[str, str]], result: CatalogPut
    ) -> dict[tuple[str, str], StreamCatalogRecord]:
        """The kept records of these entities with their positions, deletions among them.

        `result` takes the bases of those that were patched before.
        """
        pipeline = self._redis.pipeline(transaction=False)
        for entity in wanted:
            pipeline.hmget(self._keys.catalog(*entity), "source", "offset", "record", *_BASE)
        held = {}
        for entity, (source, offset, value, *base) in zip(wanted, pipeline.execute(), strict=True):
            record = layout.decode_catalog(value)
            if record is not None:
                held[entity] = StreamCatalogRecord(source.decode(), int(offset), record)
                if base[0]:
                    at = Position(source.decode(), int(offset))
                    result.bases[at] = Position(base[0].decode(), int(base[1]))
        return held

    def _record(self, entity: str, entity_id: str) -> CatalogRecord | None:
        return layout.decode_catalog(
            self._redis.hget(self._keys.catalog(entity, entity_id), "record")
        )

    def _ttl_ms(self, record: CatalogRecord) -> int:
        """Time that an entry is kept, in ms; 0 for ever: an item is for as long as it is sold."""
        if record.deleted:
            return TOMBSTONE_TTL_MS
        return self._user_ttl_ms if record.entity == "user" else 0

    def _index(self, records: Sequence[CatalogRecord]) -> None:
        """Add the ids of items to the set of all ids. Users have no such set.

        An id stays in the set when its tombstone has expired; `items` skips it then.
        """
        ids = [record.entity_id for record in records if record.entity == "item"]
        if ids:
            self._redis.sadd(self._keys.catalog_index("item"), *ids)


def with_patched(
    entries: Sequence[StreamCatalogRecord],
    held: Mapping[tuple[str, str], StreamCatalogRecord],
    result: CatalogPut,
) -> list[StreamCatalogRecord]:
    """The entries, each patch as the whole record that it leads to; others of the patches are left
    out. Entries of one item or user are in the order of their log. `result` takes the whole
    records, their bases, and the patches that missed.
    """
    newest, whole = dict(held), list[StreamCatalogRecord]()
    for entry in entries:
        record, position = entry.record, Position(entry.source, entry.offset)
        is_patch = record.entity in PATCHED_ENTITY
        entity = PATCHED_ENTITY.get(record.entity, record.entity), record.entity_id
        known = newest.get(entity)
        is_next = known is None or entry.place.replaces(known.place)
        if is_patch:
            at = Position(known.source, known.offset) if known is not None else None
            if not is_next:
                # Read again: its row may not have reached the lake.
                if known is not None and at == position:
                    result.patched[position] = known.record
                continue
            changed = patched(known.record if known is not None else None, record)
            if changed is None or at is None:
                result.missed.add(position)
                continue
            result.patched[position] = changed
            if changed.entity == "user":
                result.bases[position] = result.bases.get(at, at)
            entry = entry._replace(record=changed)
        # What a server has said of a user, a page does not replace (`put_newer.lua`).
        closed = known is not None and not (known.record.by_browser or known.record.deleted)
        if is_next and not (record.by_browser and closed):
            newest[entity] = entry
        whole.append(entry)
    return whole


def _appeared_at(record: CatalogRecord) -> int | str:
    """The time at which an item appeared, by its record; empty for a deletion, and for a user."""
    if record.entity != "item" or record.deleted:
        return ""
    return record.timestamp if record.appeared_at is None else record.appeared_at
