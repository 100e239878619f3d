"""History on one machine: visitor by visitor, then item by item, from buckets on disk. Holds one
bucket at a time.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.features.history.rows import FOLDED_COLUMNS, placed
from services.features.history.snapshot import HISTORY_SCHEMA, Known, Snapshot
from services.features.history.spool import Spool, bucket_of
from services.features.history.training_files import (
    KEY,
    TrainingFiles,
    as_batch,
    item_schema,
    row_schema,
    visitor_schema,
)
from slipstream.contracts.positions import StreamInteraction
from slipstream.contracts.vocabulary import signal_weight
from slipstream.features import decay, history, training_rows
from slipstream.features.covisits import Covisit
from slipstream.features.history import StreamCovisit
from slipstream.features.training_rows import RowFilter
from slipstream.features.visitor import VisitorState
from slipstream.stores.layout import TrendingState
from slipstream.stores.rebuild import RebuiltItem, RebuiltVisitor

# A bucket of so many events takes some hundred MB while it is folded.
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

Progress = Callable[[str, float], None]
T = TypeVar("T")


@dataclass
class Trending:
    """The heaviest items of history, as the trending list keeps them."""

    kept: int
    state: TrendingState
    heap: list[tuple[float, str]] = field(default_factory=list)

    def by_item(self) -> dict[str, float]:
        """The mass of each; of an item that was added several times, all of it together."""
        masses: dict[str, float] = {}
        for mass, item_id in self.heap:
            masses[item_id] = decay.join(masses.get(item_id), mass) or mass
        return masses

    def add(self, records: Sequence[StreamInteraction], item_id: str | None) -> None:
        """Records of one item, or of none."""
        for source, offset, event in records:
            self.cover(source, offset, event.timestamp)
        if item_id is not None:
            self.push(item_id, trending_mass(records, self.state.half_life_ms))

    def cover(self, source: str, offset: int, timestamp: int) -> None:
        self.state.applied[source] = max(offset, self.state.applied.get(source, -1))
        self.state.newest = max(self.state.newest, timestamp)

    def push(self, item_id: str, mass: float | None) -> None:
        if mass is not None:
            heapq.heappush(self.heap, (mass, item_id))
            if len(self.heap) > self.kept:
                heapq.heappop(self.heap)


def trending_mass(records: Iterable[StreamInteraction], half_life_ms: float) -> float | None:
    """What these events of an item weigh in the trending list."""
    mass = None
    for record in history.in_order_of_time(records):
        event = record.interaction
        mass = decay.add(mass, signal_weight(event.event_type), event.timestamp, half_life_ms)
    return mass


@dataclass
class Sinks:
    """Where states go as they are folded; what is None is not folded."""

    visitors: Callable[[list[RebuiltVisitor]], None] | None = None
    items: Callable[[list[RebuiltItem]], None] | None = None
    trending: Trending | None = None


class LocalEngine:
    """One run over a snapshot. `folder` is for what does not fit into memory: about 150 bytes an
    event, and up to 3 KB a row.
    """

    def __init__(
        self, snapshot: Snapshot, folder: Path, progress: Progress, bucket_rows: int = BUCKET_ROWS
    ) -> None:
        self._snapshot, self._known, self._progress = snapshot, snapshot.known, progress
        buckets = min(_MOST_BUCKETS, 1 + snapshot.count() // bucket_rows)

        def spool(name: str, schema: pa.Schema) -> Spool:
            return Spool(folder, name, schema, buckets)

        self._visitors, self._items = (
            spool("visitors", HISTORY_SCHEMA),
            spool("items", HISTORY_SCHEMA),
        )
        self._pairs = spool("pairs", _PAIRS_SCHEMA)
        self._moments, self._answers = (
            spool("moments", visitor_schema(snapshot.known.attributes)),
            spool("answers", item_schema()),
        )
        self._buckets = buckets
        # users of whom links tell, and no record was found yet
        self._linked = set(snapshot.known.merged.values())

    def run(self, sinks: Sinks, files: TrainingFiles | None, asked: RowFilter) -> None:
        """Fold everything once: states into `sinks`, and the asked moments into `files`."""
        self._distribute(sinks)
        for bucket in range(self._buckets):
            self._progress("visitors", bucket / self._buckets)
            self._fold_visitors(bucket, sinks, files is not None, asked)
        if sinks.visitors is not None:
            sinks.visitors([only_linked(self._known, user_id) for user_id in sorted(self._linked)])
        for bucket in range(self._buckets):
            self._progress("items", bucket / self._buckets)
            self._fold_items(bucket, sinks, files is not None, asked)
        if files is not None:
            for bucket in range(self._buckets):
                self._progress("training rows", bucket / self._buckets)
                files.write(bucket, self._joined(bucket), row_schema(self._known.attributes))

    def _distribute(self, sinks: Sinks) -> None:
        done, total = 0, max(1, self._snapshot.count())
        for batch in self._snapshot.records():
            self._visitors.add(batch, bucket_of(batch["visitor"], self._buckets))
            on_items = batch.filter(pc.is_valid(batch["item_id"]))
            self._items.add(on_items, bucket_of(on_items["item_id"], self._buckets))
            if sinks.trending is not None:
                without = batch.filter(pc.is_null(batch["item_id"]))
                sinks.trending.add(placed(without.select(FOLDED_COLUMNS).to_pydict()), None)
            done += batch.num_rows
            self._progress("reading the lake", done / total)

    def _fold_visitors(self, bucket: int, sinks: Sinks, rows: bool, asked: RowFilter) -> None:
        groups = _grouped(self._visitors.read(bucket), "visitor")
        if sinks.visitors is not None or sinks.items is not None:
            for chunk in several_of(groups, _STATES_AT_ONCE):
                rebuilt: list[RebuiltVisitor] = []
                told: list[StreamCovisit] = []
                for user_id in chunk:
                    visitor, pairs = rebuilt_visitor(self._known, user_id, groups[user_id])
                    rebuilt.append(visitor)
                    told += pairs
                self._spool_pairs(told)
                if sinks.visitors is not None:
                    sinks.visitors(rebuilt)
        self._linked.difference_update(groups)
        if rows:
            schema = visitor_schema(self._known.attributes)
            found = (
                row
                for user_id, records in groups.items()
                for row in training_rows.visitor_rows(
                    user_id, records, asked, self._known.catalogue, self._known.attributes
                )
            )
            for several in several_of(found, _ROWS_AT_ONCE):
                self._moments.add(as_batch(several, schema), np.full(len(several), bucket))

    def _fold_items(self, bucket: int, sinks: Sinks, rows: bool, asked: RowFilter) -> None:
        table = self._items.read(bucket)
        pairs = self._pairs.read(bucket)
        groups = _grouped(table, "item_id")
        told = pairs_by_item(
            zip(*(pairs[name].to_pylist() for name in _PAIRS_SCHEMA.names), strict=True)
        )
        if sinks.items is not None:
            for chunk in several_of(groups, _STATES_AT_ONCE):
                sinks.items(
                    [
                        rebuilt_item(item_id, groups[item_id], told.get(item_id, ()))
                        for item_id in chunk
                    ]
                )
        if sinks.trending is not None:
            for item_id, records in groups.items():
                sinks.trending.add(records, item_id)
        if rows:
            places = zip(*(table[name].to_pylist() for name in KEY), strict=True)
            of_visitor = dict(
                zip(
                    places,
                    bucket_of(table["visitor"].combine_chunks(), self._buckets).tolist(),
                    strict=True,
                )
            )
            found = (
                row
                for records in groups.values()
                for row in training_rows.item_rows(records, asked)
            )
            for several in several_of(found, _ROWS_AT_ONCE):
                buckets = [of_visitor[_place(row)] for row in several]
                self._answers.add(as_batch(several, item_schema()), np.array(buckets, np.int64))

    def _spool_pairs(self, told: Sequence[StreamCovisit]) -> None:
        if told:
            rows = [(source, offset, *pair) for source, offset, pair in told]
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
        answers = self._answers.read(bucket)
        at = {
            place: row
            for row, place in enumerate(
                zip(*(answers[name].to_pylist() for name in KEY), strict=True)
            )
        }
        features = answers.drop_columns(list(KEY))
        for batch in self._moments.read(bucket).to_batches():
            places = zip(*(batch[name].to_pylist() for name in KEY), strict=True)
            theirs = features.take(
                pa.array([at[place] for place in places], pa.int64())
            ).combine_chunks()
            schema = row_schema(self._known.attributes)
            columns = [
                batch[name] if name in batch.schema.names else theirs[name] for name in schema.names
            ]
            yield from pa.table(columns, schema=schema).to_batches()


def rebuilt_visitor(
    known: Known, user_id: str, records: Sequence[StreamInteraction]
) -> tuple[RebuiltVisitor, list[StreamCovisit]]:
    """A user's state of history, and the pairs that its records told."""
    arrived = history.in_order_of_arrival(records)
    links = known.links_to(user_id)
    state = history.visitor_state(user_id, arrived)
    for source, offset in known.erased(user_id):
        state.applied[source] = offset
    last = max(record.interaction.received_at for record in arrived)
    return RebuiltVisitor(user_id, state, known.members(user_id), last), history.covisits(
        user_id, arrived, links
    )


def only_linked(known: Known, user_id: str) -> RebuiltVisitor:
    """A user of whom nothing is known but who the user was before."""
    last = max(link.timestamp for link in known.links_to(user_id))
    return RebuiltVisitor(user_id, VisitorState(), known.members(user_id), last)


def rebuilt_item(
    item_id: str, records: Sequence[StreamInteraction], told: Sequence[StreamCovisit]
) -> RebuiltItem:
    last = max(record.interaction.received_at for record in records)
    return RebuiltItem(item_id, history.item_state(records, told), last)


def _grouped(table: pa.Table, by: str) -> dict[str, list[StreamInteraction]]:
    """The records of each id, ids in order."""
    groups: dict[str, list[StreamInteraction]] = {
        name: [] for name in sorted(pc.unique(table[by]).to_pylist())
    }
    for batch in table.to_batches(max_chunksize=16_384):
        columns: dict[str, list[Any]] = batch.to_pydict()
        for name, record in zip(columns[by], placed(columns), strict=True):
            groups[name].append(record)
    return groups


def pairs_by_item(rows: Iterable[tuple[Any, ...]]) -> dict[str, list[StreamCovisit]]:
    """Pairs of (source, offset, item, neighbour, time)."""
    told: dict[str, list[StreamCovisit]] = {}
    for source, offset, *pair in rows:
        told.setdefault(pair[0], []).append(StreamCovisit(source, offset, Covisit(*pair)))
    return told


def _place(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEY)


def several_of(found: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of so many, the last perhaps shorter."""
    rest = iter(found)
    while several := list(islice(rest, size)):
        yield several
