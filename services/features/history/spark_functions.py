"""Functions that Spark's workers run on the records of a visitor or an item."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from services.features.history.lake_snapshot import CatalogHistory
from services.features.history.rebuilt_states import pairs_by_item, rebuilt_item, rebuilt_visitor
from services.features.history.rows import FOLDED_COLUMNS, stream_interactions
from services.features.history.sinks import demand_masses
from services.features.history.training_files import as_batch, item_schema, visitor_schema
from slipstream.contracts.positions import StreamInteraction
from slipstream.features import training_rows
from slipstream.stores import layout

if TYPE_CHECKING:
    import pandas as pd

# Columns of the frames below, as Spark writes a schema.
VISITORS: Final = "user_id string, state binary, last_received long"
ITEMS: Final = "item_id string, state binary, last_received long, masses array<double>"
PAIRS: Final = "source string, offset long, item_id string, neighbour string, at long"
_PAIR_COLUMNS: Final = ("source", "offset", "item_id", "neighbour", "at")
_NO_REVISION: Final = bytes(layout.REVISION_BYTES)


def visitor_state(broadcast: Any, frame: "pd.DataFrame") -> "pd.DataFrame":
    """The encoded state of the visitor whose records these are."""
    catalog: CatalogHistory = broadcast.value
    visitor, _ = rebuilt_visitor(catalog, frame["visitor"].iloc[0], _records(frame))
    return _frame(
        [
            (
                visitor.user_id,
                layout.encode_visitor(visitor.state, _NO_REVISION),
                visitor.last_received,
            )
        ],
        VISITORS,
    )


def visitor_pairs(broadcast: Any, frame: "pd.DataFrame") -> "pd.DataFrame":
    """The pairs of items that a visitor's records make."""
    catalog: CatalogHistory = broadcast.value
    _, pairs = rebuilt_visitor(catalog, frame["visitor"].iloc[0], _records(frame))
    return _frame([(source, offset, *pair) for source, offset, pair in pairs], PAIRS)


def item_state(
    half_lives_ms: Sequence[float], events: "pd.DataFrame", pairs: "pd.DataFrame"
) -> "pd.DataFrame":
    """The encoded state of the item whose records and pairs these are, with its demand."""
    records = _records(events)
    item_id: str = events["item_id"].iloc[0]
    rows = zip(*(pairs[name].tolist() for name in _PAIR_COLUMNS), strict=True)
    item = rebuilt_item(item_id, records, pairs_by_item(rows).get(item_id, []))
    encoded = layout.encode_item(item.state, _NO_REVISION)
    return _frame(
        [(item_id, encoded, item.last_received, demand_masses(records, half_lives_ms))], ITEMS
    )


def visitor_rows(
    broadcast: Any, since_ms: int | None, until_ms: int | None, frame: "pd.DataFrame"
) -> "pd.DataFrame":
    """The visitor halves of training rows, of the visitor whose records these are."""
    catalog: CatalogHistory = broadcast.value
    asked = training_rows.rows_between(since_ms, until_ms)
    rows = training_rows.visitor_rows(
        frame["visitor"].iloc[0],
        _records(frame),
        asked,
        catalog.item_attributes,
        catalog.attributes,
    )
    return as_batch(rows, visitor_schema(catalog.attributes)).to_pandas()


def item_rows(since_ms: int | None, until_ms: int | None, frame: "pd.DataFrame") -> "pd.DataFrame":
    """The item halves of training rows, of the item whose records these are."""
    return as_batch(
        training_rows.item_rows(_records(frame), training_rows.rows_between(since_ms, until_ms)),
        item_schema(),
    ).to_pandas()


def _records(frame: "pd.DataFrame") -> list[StreamInteraction]:
    return stream_interactions({name: frame[name].tolist() for name in FOLDED_COLUMNS})


def _frame(rows: Iterable[tuple[Any, ...]], columns: str) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(list(rows), columns=[column.split()[0] for column in columns.split(", ")])
