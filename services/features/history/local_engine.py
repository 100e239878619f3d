"""Engine that folds history on this machine: visitor by visitor, then item by item.

Rows wait in buckets on disk, by the hash of an id, of which one at a time is in memory. So all rows
of an id are read together, without the rows of all others in memory.
"""

import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.features.history.archive import FOLDED_COLUMNS, stream_interactions
from services.features.history.lake_snapshot import HISTORY_SCHEMA, LakeSnapshot
from services.features.history.sinks import (
    Sinks,
    chunks,
    linked_visitor,
    pairs_by_item,
    rebuilt_item,
    rebuilt_visitor,
)
from services.features.history.training_files import (
    KEY,
    TrainingFiles,
    as_batch,
    item_schema,
    row_schema,
    visitor_schema,
)
from slipstream.contracts.positions import StreamInteraction
from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.features import training_rows
from slipstream.features.history import StreamCovisit
from slipstream.features.training_rows import RowFilter
from slipstream.stores.rebuild import RebuiltVisitor


def bucket_of(ids: pa.Array, buckets: int) -> NDArray[np.int64]:
    """The number of each id's bucket, which is the same in every process."""
    encoded = ids.dictionary_encode()
    hashed = np.array(
        [zlib.crc32(each.encode()) % buckets for each in encoded.dictionary.to_pylist()], np.int64
    )
    numbers: NDArray[np.int64] = hashed[encoded.indices.to_numpy(zero_copy_only=False)]
    return numbers


class Buckets:
    """Rows that are written once, then read bucket by bucket, each any number of times."""

    def __init__(self, folder: Path, name: str, schema: pa.Schema, buckets: int) -> None:
        self._folder, self._name, self._schema = folder, name, schema
        self.buckets = buckets
        self._writers: dict[int, Any] = {}

    def add(self, batch: pa.RecordBatch, numbers: NDArray[np.int64]) -> None:
        """Put each row into the bucket with the number at its index."""
        order = np.argsort(numbers, kind="stable")
        ordered = batch.take(pa.array(order))
        starts = np.searchsorted(numbers[order], np.arange(self.buckets + 1))
        for bucket, (begin, end) in enumerate(pairwise(starts)):
            if end > begin:
                self._writer(bucket).write_batch(ordered.slice(begin, end - begin))

    def read(self, bucket: int) -> pa.Table:
        """All rows of a bucket, in the order in which they were added.

        No rows can be added after the first read.
        """
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
        path = self._path(bucket)
        if not path.exists():
            return self._schema.empty_table()
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
            return stream.read_all()

    def _writer(self, bucket: int) -> Any:
        if bucket not in self._writers:
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._writers[bucket] = pa.ipc.new_stream(
                str(self._path(bucket)), self._schema, options=options
            )
        return self._writers[bucket]

    def _path(self, bucket: int) -> Path:
        return self._folder / f"{self._name}-{bucket:05}.arrows"


# Events in a bucket. It takes some hundred MB while it is folded.
BUCKET_ROWS: Final = 100_000
_MOST_BUCKETS: Final = 512
_ROWS_AT_ONCE: Final = 2_000
_STATES_AT_ONCE: Final = 500
_PAIRS_SCHEMA: Final = pa.schema(
    [
        ("source", pa.string()),
        ("offset", pa.int64()),
        ("item_id", pa.string()),
        ("neighbour", pa.string()),
        ("at", pa.int64()),
    ]
)


class LocalEngine:
    """A run over a snapshot of the lake on this machine."""

    def __init__(
        self,
        snapshot: LakeSnapshot,
        folder: Path,
        progress: Progress,
        bucket_rows: int = BUCKET_ROWS,
    ) -> None:
        """The folder takes the buckets: about 150 bytes an event, and up to 3 KB a training row.

        Args:
            folder: An empty folder on a disk with room for the buckets.
            progress: Called as the run goes on.
            bucket_rows: Events per bucket, about.
        """
        self._snapshot, self._catalog, self._progress = snapshot, snapshot.catalog, progress
        buckets = min(_MOST_BUCKETS, 1 + snapshot.count() // bucket_rows)

        def buckets_for(name: str, schema: pa.Schema) -> Buckets:
            return Buckets(folder, name, schema, buckets)

        # Records by visitor and by item, and the pairs of items that visitors' records make.
        self._visitors = buckets_for("visitors", HISTORY_SCHEMA)
        self._items = buckets_for("items", HISTORY_SCHEMA)
        self._pairs = buckets_for("pairs", _PAIRS_SCHEMA)
        # The two halves of training rows, both by visitor.
        self._visitor_rows = buckets_for("visitor-rows", visitor_schema(self._catalog.attributes))
        self._item_rows = buckets_for("item-rows", item_schema())
        self._buckets = buckets
        # Users that links name and that have no record yet.
        self._linked = set(self._catalog.merged.values())

    def run(self, sinks: Sinks, files: TrainingFiles | None, asked: RowFilter) -> None:
        """Fold history once.

        Args:
            files: Folder for training rows; None for none.
            asked: Whether an event becomes a training row.
        """
        self._distribute(sinks)
        for bucket in range(self._buckets):
            self._progress(ProgressStep("visitors", bucket / self._buckets))
            self._fold_visitors(bucket, sinks, files is not None, asked)
        if sinks.visitors is not None:
            sinks.visitors(
                [linked_visitor(self._catalog, user_id) for user_id in sorted(self._linked)]
            )
        for bucket in range(self._buckets):
            self._progress(ProgressStep("items", bucket / self._buckets))
            self._fold_items(bucket, sinks, files is not None, asked)
        if files is not None:
            for bucket in range(self._buckets):
                self._progress(ProgressStep("training rows", bucket / self._buckets))
                files.write(bucket, self._joined(bucket), row_schema(self._catalog.attributes))

    def _distribute(self, sinks: Sinks) -> None:
        done, total = 0, max(1, self._snapshot.count())
        for batch in self._snapshot.records():
            self._visitors.add(batch, bucket_of(batch["visitor"], self._buckets))
            on_items = batch.filter(pc.is_valid(batch["item_id"]))
            self._items.add(on_items, bucket_of(on_items["item_id"], self._buckets))
            if sinks.trending is not None:
                without = batch.filter(pc.is_null(batch["item_id"]))
                columns = without.select(FOLDED_COLUMNS).to_pydict()
                sinks.trending.add(stream_interactions(columns), None)
            done += batch.num_rows
            self._progress(ProgressStep("reading the lake", done / total))

    def _fold_visitors(self, bucket: int, sinks: Sinks, rows: bool, asked: RowFilter) -> None:
        groups = _grouped(self._visitors.read(bucket), "visitor")
        if sinks.visitors is not None or sinks.items is not None:
            for chunk in chunks(groups, _STATES_AT_ONCE):
                rebuilt: list[RebuiltVisitor] = []
                pairs: list[StreamCovisit] = []
                for user_id in chunk:
                    visitor, theirs = rebuilt_visitor(self._catalog, user_id, groups[user_id])
                    rebuilt.append(visitor)
                    pairs += theirs
                self._add_pairs(pairs)
                if sinks.visitors is not None:
                    sinks.visitors(rebuilt)
        self._linked.difference_update(groups)
        if rows:
            schema = visitor_schema(self._catalog.attributes)
            visitor_rows = (
                row
                for user_id, records in groups.items()
                for row in training_rows.visitor_rows(
                    user_id, records, asked, self._catalog.item_attributes, self._catalog.attributes
                )
            )
            for several in chunks(visitor_rows, _ROWS_AT_ONCE):
                self._visitor_rows.add(as_batch(several, schema), np.full(len(several), bucket))

    def _fold_items(self, bucket: int, sinks: Sinks, rows: bool, asked: RowFilter) -> None:
        table, pair_table = self._items.read(bucket), self._pairs.read(bucket)
        groups = _grouped(table, "item_id")
        pairs = pairs_by_item(
            zip(*(pair_table[name].to_pylist() for name in _PAIRS_SCHEMA.names), strict=True)
        )
        if sinks.items is not None:
            for chunk in chunks(groups, _STATES_AT_ONCE):
                sinks.items(
                    [
                        rebuilt_item(item_id, groups[item_id], pairs.get(item_id, ()))
                        for item_id in chunk
                    ]
                )
        if sinks.trending is not None:
            for item_id, records in groups.items():
                sinks.trending.add(records, item_id)
        if rows:
            # A row's item half goes to the bucket of its visitor half.
            visitor_buckets = bucket_of(table["visitor"].combine_chunks(), self._buckets).tolist()
            bucket_by_key = dict(zip(_keys(table), visitor_buckets, strict=True))
            item_rows = (
                row
                for records in groups.values()
                for row in training_rows.item_rows(records, asked)
            )
            for several in chunks(item_rows, _ROWS_AT_ONCE):
                buckets = [bucket_by_key[tuple(row[name] for name in KEY)] for row in several]
                self._item_rows.add(as_batch(several, item_schema()), np.array(buckets, np.int64))

    def _add_pairs(self, pairs: Sequence[StreamCovisit]) -> None:
        if pairs:
            rows = [(source, offset, *pair) for source, offset, pair in pairs]
            batch = pa.RecordBatch.from_arrays(
                [
                    pa.array(column, kind)
                    for column, kind in zip(
                        zip(*rows, strict=True), _PAIRS_SCHEMA.types, strict=True
                    )
                ],
                schema=_PAIRS_SCHEMA,
            )
            self._pairs.add(batch, bucket_of(batch["item_id"], self._buckets))

    def _joined(self, bucket: int) -> Iterator[pa.RecordBatch]:
        """The training rows of a bucket: their visitor halves joined with their item halves."""
        item_rows = self._item_rows.read(bucket)
        row_by_key = {key: row for row, key in enumerate(_keys(item_rows))}
        of_items = item_rows.drop_columns(list(KEY))
        schema = row_schema(self._catalog.attributes)
        for batch in self._visitor_rows.read(bucket).to_batches():
            rows = pa.array([row_by_key[key] for key in _keys(batch)], pa.int64())
            theirs = of_items.take(rows).combine_chunks()
            columns = [
                batch[name] if name in batch.schema.names else theirs[name] for name in schema.names
            ]
            yield from pa.table(columns, schema=schema).to_batches()


def _grouped(table: pa.Table, by: str) -> dict[str, list[StreamInteraction]]:
    """The records of each id in the column `by`, ids in order."""
    groups: dict[str, list[StreamInteraction]] = {
        name: [] for name in sorted(pc.unique(table[by]).to_pylist())
    }
    for batch in table.to_batches(max_chunksize=16_384):
        columns: dict[str, list[Any]] = batch.to_pydict()
        for name, record in zip(columns[by], stream_interactions(columns), strict=True):
            groups[name].append(record)
    return groups


def _keys(rows: pa.Table | pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
    """The position of each row's event."""
    return zip(*(rows[name].to_pylist() for name in KEY), strict=True)
