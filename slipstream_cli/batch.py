"""Lists of all visitors: their histories from the lake, and lists by the kernels, in Parquet."""

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from services.features.history.lake_snapshot import LakeSnapshot
from services.features.history.local_engine import Buckets, bucket_of
from slipstream.contracts.positions import StreamCatalogRecord
from slipstream.contracts.times import now_ms
from slipstream.contracts.vocabulary import WITHOUT_SIGNAL
from slipstream.features.visitor import SEQUENCE_LENGTH
from slipstream.filters.conditions import depends_on_visitor
from slipstream.filters.expressions import FilterError as FilterError
from slipstream.filters.expressions import parsed_at
from slipstream.models.base import History, Mask
from slipstream.recommender import encoding
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.plan import ListRequest, Lists
from slipstream.recommender.stages import list_request
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.catalogue.masks import mask

EVENTS: Final = pa.schema(
    [
        ("visitor", pa.string()),
        ("item_id", pa.string()),
        ("event_type", pa.string()),
        ("timestamp", pa.int64()),
        ("value", pa.float64()),
    ]
)
# Events of one bucket, which is in memory at once, about.
BUCKET_ROWS: Final = 500_000
_MOST_BUCKETS: Final = 512
# The order of events in a visitor's sequence (`slipstream.features.visitor.enter`).
_ORDER: Final = ("visitor", "timestamp", "item_id", "event_type", "value")


class VisitorHistory(NamedTuple):
    """A visitor, the events that a bundle knows, and the items that it would not show again."""

    user_id: str
    history: History
    excluded: NDArray[np.int32]


def events_of_file(interactions: pa.Table) -> Iterator[pa.Table]:
    """The events of a table of `read_interactions`, all at once."""
    columns = {"visitor": interactions["user_id"]} | {
        name: interactions[name] for name in EVENTS.names[1:] if name in interactions.column_names
    }
    columns.setdefault("value", pa.nulls(interactions.num_rows, pa.float64()))
    yield pa.table(columns).cast(EVENTS)


def events_of_lake(snapshot: LakeSnapshot, work_dir: Path | None) -> Iterator[pa.Table]:
    """The events of the lake in tables that have all of their visitors, one bucket at a time.

    A visitor who was linked to a user counts as the user.

    Args:
        work_dir: Folder for the buckets, of 60 bytes an event; the system's for temporary files
            when None.
    """
    number = min(_MOST_BUCKETS, 1 + snapshot.count() // BUCKET_ROWS)
    with tempfile.TemporaryDirectory(prefix="slipstream-batch-", dir=work_dir) as folder:
        buckets = Buckets(Path(folder), "events", EVENTS, number)
        for batch in snapshot.records():
            buckets.add(batch.select(EVENTS.names), bucket_of(batch["visitor"], number))
        for bucket in range(number):
            yield buckets.read(bucket)


def histories(bundle: Bundle, events: pa.Table) -> Iterator[VisitorHistory]:
    """The history of each visitor of these events, by id.

    It is what serving would read of the online store: the latest `SEQUENCE_LENGTH` events that show
    a liking for an item. A visitor without any has an empty one.
    """
    visitors = sorted(pc.unique(events["visitor"]).to_pylist())
    signals = pc.and_(
        pc.is_valid(events["item_id"]),
        pc.invert(pc.is_in(events["event_type"], pa.array(sorted(WITHOUT_SIGNAL)))),
    )
    found = events.filter(signals)
    # Of two equal events, the one without a value comes first.
    place = found.schema.get_field_index("value")
    filled = found.set_column(place, "value", pc.fill_null(found["value"], float("-inf")))
    order = pc.sort_indices(filled, [(name, "ascending") for name in _ORDER])
    found = found.take(order)
    codes = pc.index_in(found["visitor"], pa.array(visitors, pa.string())).to_numpy()
    ends = np.searchsorted(codes, np.arange(len(visitors)), side="right").tolist()
    begins = np.searchsorted(codes, np.arange(len(visitors)), side="left").tolist()
    item = pc.fill_null(
        pc.index_in(found["item_id"], pa.array(bundle.item_ids, pa.string())), -1
    ).to_numpy()
    weight = encoding.event_weights(found, bundle.event_weights)
    timestamp = found["timestamp"].to_numpy()
    rests = np.zeros(len(item), np.bool_)
    if bundle.repurchases is not None:
        bought = pc.equal(found["event_type"], bundle.repurchases.bought_by).to_numpy()
        rests = (item >= 0) & bought & bundle.repurchases.resting(item, now_ms() - timestamp)
    for user_id, begin, end in zip(visitors, begins, ends, strict=True):
        latest = slice(max(begin, end - SEQUENCE_LENGTH), end)
        known = item[latest] >= 0
        counts = known & (weight[latest] > 0)
        hidden = rests[latest] if bundle.repeats else known
        yield VisitorHistory(
            user_id,
            History(
                item[latest][counts].astype(np.int32),
                weight[latest][counts],
                timestamp[latest][counts].astype(np.int64),
            ),
            np.unique(item[latest][hidden]).astype(np.int32),
        )


# Columns of the file. `rank` begins with 1. `score` is the item's probability among the candidates,
# `source` the retriever with the largest part of it.
SCHEMA: Final = pa.schema(
    [
        ("user_id", pa.string()),
        ("rank", pa.int16()),
        ("item_id", pa.string()),
        ("score", pa.float32()),
        ("source", pa.string()),
        ("model_version", pa.string()),
    ]
)
# Visitors of one call of the kernels.
_AT_ONCE: Final = 256


def write_lists(
    out: Path,
    bundle: Bundle,
    version: str,
    visitors: Iterable[VisitorHistory],
    n: int,
    allowed: Mask,
    done: Callable[[int], None],
) -> int:
    """Write the `n` best items of each visitor; returns the number of visitors.

    Every core makes lists. The file appears whole or not at all.

    Args:
        out: File to write; one that is there is replaced.
        visitors: The visitors, who are read as lists are made.
        n: Length of a list; shorter where no more may be shown.
        allowed: Whether each item of the bundle may be shown.
        done: Called with the number of visitors so far.
    """
    request, written = list_request(n, allowed), 0
    part = out.with_name(f".{out.name}.part")
    try:
        with pq.ParquetWriter(part, SCHEMA, compression="zstd") as file:
            for group, lists in _made(bundle, request, visitors):
                file.write_table(_rows(bundle, version, group, lists))
                written += len(group)
                done(written)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    return written


def _made(
    bundle: Bundle, request: ListRequest, visitors: Iterable[VisitorHistory]
) -> Iterator[tuple[Sequence[VisitorHistory], Lists]]:
    """Groups of visitors with their lists, in order; a few groups ahead of the reader at most."""
    rest = iter(visitors)
    cores = os.cpu_count() or 1
    waiting: deque[tuple[Sequence[VisitorHistory], Future[Lists]]] = deque()
    with ThreadPoolExecutor(cores, "kernels") as threads:
        while True:
            while len(waiting) < 2 * cores and (group := list(islice(rest, _AT_ONCE))):
                call = threads.submit(
                    bundle.plan.recommend,
                    [one.history for one in group],
                    request,
                    [one.excluded for one in group],
                )
                waiting.append((group, call))
            if not waiting:
                return
            asked, made = waiting.popleft()
            yield asked, made.result()


def _rows(bundle: Bundle, version: str, group: Sequence[VisitorHistory], lists: Lists) -> pa.Table:
    listed = lists.items >= 0
    visitor, place = np.nonzero(listed)
    item_ids = pa.array(bundle.item_ids, pa.string())
    names = pa.array(list(bundle.retrievers), pa.string())
    return pa.table(
        [
            pa.array([one.user_id for one in group], pa.string()).take(pa.array(visitor)),
            pa.array(place + 1, pa.int16()),
            item_ids.take(pa.array(lists.items[listed])),
            pa.array(lists.scores[listed], pa.float32()),
            names.take(pa.array(lists.sources[listed])),
            pa.array([version], pa.string()).take(pa.array(np.zeros(len(visitor), np.int8))),
        ],
        schema=SCHEMA,
    )


def listed(bundle: Bundle, entries: Iterable[StreamCatalogRecord], expression: str = "") -> Mask:
    """Whether each item of the bundle may be shown now. Items without an entry may.

    Args:
        entries: The newest record of each item of the catalogue.
        expression: Condition that items must meet; empty for none.

    Raises:
        FilterError: The expression can't be read, or depends on the visitor.
    """
    catalog = Catalog()
    for entry in entries:
        catalog.apply(entry)
    shown = np.fromiter(map(catalog.shown, bundle.item_ids), np.bool_, len(bundle.item_ids))
    if expression:
        condition = parsed_at(expression, now_ms())
        if depends_on_visitor(condition):
            raise FilterError("`seen` and `bought` can't be in a filter for all visitors", 0)
        shown &= mask(condition, catalog.listed(bundle.item_ids), {})
    return shown
