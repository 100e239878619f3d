"""Histories of all visitors, as the online store would hold them."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.features.history.lake_snapshot import LakeSnapshot
from services.features.history.local_engine import Buckets, bucket_of
from slipstream.contracts.vocabulary import WITHOUT_SIGNAL
from slipstream.features.visitor import SEQUENCE_LENGTH
from slipstream.models.base import History
from slipstream.recommender import encoding
from slipstream.recommender.bundle import Bundle

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
        snapshot: The lake at one moment.
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
    for user_id, begin, end in zip(visitors, begins, ends, strict=True):
        latest = slice(max(begin, end - SEQUENCE_LENGTH), end)
        known = item[latest] >= 0
        counts = known & (weight[latest] > 0)
        seen = np.empty(0, np.int32)
        if not bundle.repeats:
            seen = np.unique(item[latest][known]).astype(np.int32)
        yield VisitorHistory(
            user_id,
            History(
                item[latest][counts].astype(np.int32),
                weight[latest][counts],
                timestamp[latest][counts].astype(np.int64),
            ),
            seen,
        )
