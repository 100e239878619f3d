"""The catalogue of items as a serving process knew it: the lake's records up to given positions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from services.features.history.erased_people import stream_entry
from slipstream.contracts.positions import CatalogPlace, Position, source_name
from slipstream.stores.lake import CATALOG, Lake

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
