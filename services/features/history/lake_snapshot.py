"""The lake at one moment: interactions, the catalogue's knowledge of visitors, and its items.

A slate's catalogue is that which a serving process knew: the lake's records up to given positions.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from services.features.history.archive import FOLDED_COLUMNS
from services.features.history.people import is_request, links_in, stream_entry, without_erased
from slipstream.contracts.positions import (
    CatalogPlace,
    Position,
    StreamCatalogRecord,
    in_order_of_logs,
    source_name,
)
from slipstream.features.identity import Identities, Link
from slipstream.features.training_rows import AttributeHistory
from slipstream.stores.lake import CATALOG, INTERACTIONS, SCHEMAS, Lake

# Folded columns of an interaction, and the user that its visitor is linked to today.
HISTORY_SCHEMA = pa.schema(
    [*(SCHEMAS[INTERACTIONS].field(name) for name in FOLDED_COLUMNS), ("visitor", pa.string())]
)


class CatalogHistory:
    """Links, erasures and item versions of the catalogue.

    It holds no table, so it can be sent to other processes. Every version of the attributes that
    features are made of is in memory.
    """

    def __init__(self, entries: Iterable[StreamCatalogRecord], attributes: Sequence[str]) -> None:
        """Read the catalogue's records, in the order of their logs."""
        self.attributes = tuple(attributes)
        links: list[Link] = []
        erasures: list[StreamCatalogRecord] = []
        versions: list[tuple[str, int, dict[str, Any]]] = []
        # A version holds from its time on, but not from before the one that it replaced.
        held_from: dict[str, int] = {}
        for source, offset, record in entries:
            if record.entity == "identity":
                links += links_in(StreamCatalogRecord(source, offset, record))
            elif record.entity == "item":
                since = record.timestamp
                if not record.client_time:
                    since = max(since, held_from.get(record.entity_id, 0))
                    held_from[record.entity_id] = since
                versions.append((record.entity_id, since, record.attributes))
            elif record.deleted:
                erasures.append(StreamCatalogRecord(source, offset, record))
        self.identities = Identities(links)
        self.merged = self.identities.merged()
        self.item_attributes = AttributeHistory(versions, attributes)
        self._links: dict[str, list[Link]] = {}
        for link in links:
            if link.visitor_id in self.merged:
                self._links.setdefault(self.merged[link.visitor_id], []).append(link)
        self._erased: dict[str, list[Position]] = {}
        for source, offset, record in erasures:
            self._erased.setdefault(self.identities.resolve(record.entity_id), []).append(
                Position(source, offset)
            )

    def links_to(self, user_id: str) -> list[Link]:
        """The links that make other visitors this user, directly or through others."""
        return self._links.get(user_id, [])

    def members(self, user_id: str) -> tuple[str, ...]:
        """The visitors who are linked to this user."""
        return tuple(dict.fromkeys(link.visitor_id for link in self.links_to(user_id)))

    def unproven(self, user_id: str) -> frozenset[str]:
        """The members who are this user by a page's word alone."""
        return frozenset(self.members(user_id)) & self.identities.unproven

    def erased(self, user_id: str) -> list[Position]:
        """The positions of the records that had this user's history erased."""
        return self._erased.get(user_id, [])


class LakeSnapshot:
    """Versions of the lake's tables, pinned when made, without later appends.

    The catalogue is in memory.
    """

    def __init__(self, lake: Lake, attributes: Sequence[str]) -> None:
        self.lake = lake
        # Interactions first, so that the catalogue is never older than they are.
        self.version, self.catalog_version = lake.version(INTERACTIONS), lake.version(CATALOG)
        self.covered = LakeCoverage(self)
        records = without_erased(in_order_of_logs(self._catalog()))
        self.catalog = CatalogHistory(records, attributes)
        # Newest record of each item and user, and the patches of users. An item's has the time at
        # which the item appeared.
        self.entries: dict[tuple[str, str], StreamCatalogRecord] = {}
        for entry in records:
            entity: tuple[str, str] = entry.record.entity, entry.record.entity_id
            if entity[0] == "identity" or is_request(entry.record):
                continue
            if entity[0] == "user_patch":
                entity = f"{entry.source}:{entry.offset}", entity[1]
            held = self.entries.get(entity)
            if held is None or entry.place.replaces(held.place):
                self.entries[entity] = _since(entry, held)

    def later(self) -> "LakeSnapshot":
        """A snapshot of the newest versions. It shares the catalogue where that is unchanged."""
        version, catalog_version = self.lake.version(INTERACTIONS), self.lake.version(CATALOG)
        if catalog_version != self.catalog_version:
            return LakeSnapshot(self.lake, self.catalog.attributes)
        after = copy(self)
        after.version = version
        after.covered = LakeCoverage(after)
        return after

    def count(self) -> int:
        """The number of interactions."""
        return 0 if self.version is None else self.lake.count(INTERACTIONS, self.version)

    def records(self, since: "LakeSnapshot | None" = None) -> Iterator[pa.RecordBatch]:
        """All interactions, in `HISTORY_SCHEMA`.

        With an earlier snapshot as `since`, those that it did not have, perhaps with some others.
        """
        if self.version is None:
            return
        merged = self.catalog.merged
        if since is None or since.version is None:
            batches = self.lake.scan(INTERACTIONS, self.version, FOLDED_COLUMNS)
        else:
            batches = self.lake.scan_since(
                INTERACTIONS, self.version, since.version, FOLDED_COLUMNS
            )
        for batch in batches:
            users = batch["user_id"]
            if merged:
                users = pa.array(
                    [merged.get(user_id, user_id) for user_id in users.to_pylist()], pa.string()
                )
            yield pa.RecordBatch.from_arrays([*batch.columns, users], schema=HISTORY_SCHEMA)

    def _catalog(self) -> Iterator[StreamCatalogRecord]:
        if self.catalog_version is None:
            return
        for batch in self.lake.scan(CATALOG, self.catalog_version):
            yield from map(stream_entry, batch.to_pylist())


def _since(entry: StreamCatalogRecord, before: StreamCatalogRecord | None) -> StreamCatalogRecord:
    """An item's record with the time at which the item appeared, as `put_newer.lua` keeps it."""
    record = entry.record
    if record.entity != "item" or record.deleted:
        return entry
    appeared = before.record.appeared_at if before is not None else None
    earliest = record.timestamp if appeared is None else min(appeared, record.timestamp)
    return entry._replace(record=record.model_copy(update={"appeared_at": earliest}))


class LakeCoverage:
    """Last offset of a source that a snapshot holds, of whichever topic; -1 for none."""

    def __init__(self, snapshot: LakeSnapshot) -> None:
        lake = snapshot.lake
        tables = ((INTERACTIONS, snapshot.version), (CATALOG, snapshot.catalog_version))
        asks = [lake.covered(table, version) for table, version in tables if version is not None]
        self._ask = cache(lambda source: max((ask(source) for ask in asks), default=-1))

    def __call__(self, source: str) -> int:
        return int(self._ask(source))


# By topic id, the next offset of each partition.
Ends = Mapping[str, Sequence[int]]
_PLACES = (
    "entity", "entity_id", "topic_id", "partition", "offset", "timestamp", "client_time", "deleted",
)  # fmt: skip


@dataclass(slots=True)
class _Item:
    """The newest record of an item, its last deletion, and the time (ms) since when it is there."""

    newest: CatalogPlace
    deletion: CatalogPlace | None = None
    appeared_at: int | None = None


@dataclass(frozen=True, slots=True)
class PastCatalog:
    """The items of the catalogue at some positions: for each, where its newest record stands."""

    lake: Lake
    version: int
    items: dict[str, _Item] = field(default_factory=dict)

    def lines(self) -> Iterator[bytes]:
        """A line for each item, deleted ones too: its record's source, offset, and the record.

        These are the lines of serving's catalogue on disk. Records are read again, a batch at once.
        """
        newest = {
            Position(item.newest.source, item.newest.offset): item for item in self.items.values()
        }
        for batch in self.lake.scan(CATALOG, self.version):
            sources = _sources(batch)
            positions = map(Position, sources, batch["offset"].to_pylist())
            known = [newest.get(position) for position in positions]
            rows = batch.filter(pa.array([item is not None for item in known])).to_pylist()
            for row, item in zip(rows, filter(None, known), strict=True):
                entry = stream_entry(row)
                record = entry.record.model_dump(exclude_defaults=True, exclude={"cut"})
                if not entry.record.deleted:
                    record["appeared_at"] = item.appeared_at
                yield orjson.dumps([entry.source, entry.offset, record]) + b"\n"


def past_catalog(lake: Lake, ends: Ends) -> PastCatalog:
    """The catalogue of the records that stand before `ends`. Reads the places of all records twice.

    An item appears with its first record, and again with the first one after its deletion.
    """
    version = lake.version(CATALOG)
    past = PastCatalog(lake, version if version is not None else 0)
    if version is None:
        return past
    items = past.items
    for item_id, place, deleted in _places(past, ends):
        item = items.get(item_id)
        if item is None:
            item = items[item_id] = _Item(place)
        elif place.replaces(item.newest):
            item.newest = place
        if deleted and (item.deletion is None or place.replaces(item.deletion)):
            item.deletion = place
    for item_id, place, deleted in _places(past, ends):
        item = items[item_id]
        if not deleted and (item.deletion is None or place.replaces(item.deletion)):
            before = item.appeared_at
            item.appeared_at = place.timestamp if before is None else min(before, place.timestamp)
    return past


def catalog_changes(lake: Lake, begins: Ends, ends: Ends) -> Iterator[bytes]:
    """A line for each record of an item that stands before `ends`, and not before `begins`.

    The lines are those of `PastCatalog.lines`, in no promised order.
    """
    version = lake.version(CATALOG)
    if version is None:
        return
    for batch in lake.scan(CATALOG, version):
        later = pc.and_not(_stands_before(batch, ends), _stands_before(batch, begins))
        for row in batch.filter(pc.and_(pc.equal(batch["entity"], "item"), later)).to_pylist():
            entry = stream_entry(row)
            record = entry.record.model_dump(exclude_defaults=True, exclude={"cut"})
            yield orjson.dumps([entry.source, entry.offset, record]) + b"\n"


def _places(past: PastCatalog, ends: Ends) -> Iterator[tuple[str, CatalogPlace, bool]]:
    for batch in past.lake.scan(CATALOG, past.version, _PLACES):
        found = batch.filter(
            pc.and_(pc.equal(batch["entity"], "item"), _stands_before(batch, ends))
        )
        columns = (found[name].to_pylist() for name in ("entity_id", "offset", "timestamp"))
        flags = ([bool(flag) for flag in found[name].to_pylist()] for name in _PLACES[-2:])
        for item_id, offset, timestamp, source, client_time, deleted in zip(
            *columns, _sources(found), *flags, strict=True
        ):
            yield item_id, CatalogPlace(source, offset, timestamp, client_time), deleted


def _stands_before(batch: pa.RecordBatch, ends: Ends) -> pa.Array:
    """Whether each record stands before the end of its partition."""
    partition, offset = batch["partition"].to_numpy(), batch["offset"].to_numpy()
    before = np.zeros(len(offset), np.bool_)
    for topic_id, of_topic in ends.items():
        end = np.append(np.array(of_topic, np.int64), 0)[np.minimum(partition, len(of_topic))]
        of_it = pc.equal(batch["topic_id"], topic_id).to_numpy(zero_copy_only=False)
        before |= of_it & (offset < end)
    return pa.array(before)


def _sources(batch: pa.RecordBatch) -> list[str]:
    topics, partitions = batch["topic_id"].to_pylist(), batch["partition"].to_pylist()
    return list(map(source_name, topics, partitions))
