"""Catalogue entries in Redis: the newest record of each entity, and an index of ids."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.positions import StreamCatalogRecord
from slipstream.contracts.times import DAY_MS
from slipstream.stores import layout
from slipstream.stores.connection import Call, Scripts
from slipstream.stores.keys import Keys

# Time that a deletion is kept, so that reading an older upsert again does not bring the entry back.
TOMBSTONE_TTL_MS: Final = 30 * DAY_MS
_CHUNK: Final = 500


class CatalogEntries:
    """The entries, for one writer. Methods raise what Redis and its client raise."""

    def __init__(self, client: Any, scripts: Scripts, keys: Keys, user_ttl_ms: int) -> None:
        self._redis, self._scripts, self._keys = client, scripts, keys
        self._user_ttl_ms = user_ttl_ms

    def put(self, records: Sequence[StreamCatalogRecord]) -> list[bool]:
        """Keep each record, unless a newer one of its entity is kept; deletions as tombstones.

        Returns which records had the right to be kept: what a page says of a user has none where a
        server has said something.
        """
        # The index is in another slot than the entries, so it is written first.
        self._index([record for _, _, record in records])
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
                    ],
                )
                for source, offset, record in records
            ],
        )
        return [answer != 2 for answer in kept]

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
        """Add the ids of items to the set of all ids; nobody lists the users.

        An id stays in the set when its tombstone has expired; `items` skips it then.
        """
        ids = [record.entity_id for record in records if record.entity == "item"]
        if ids:
            self._redis.sadd(self._keys.catalog_index("item"), *ids)


def _appeared_at(record: CatalogRecord) -> int | str:
    """The time at which an item appeared, by its record; empty for a deletion, and for a user."""
    if record.entity != "item" or record.deleted:
        return ""
    return record.timestamp if record.appeared_at is None else record.appeared_at
