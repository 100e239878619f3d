"""Histories of all visitors are those of the online store."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.contracts.events import Interaction
from slipstream.features import visitor
from slipstream.recommender import stages
from slipstream.recommender.bundle import Bundle
from slipstream_cli.batch.histories import EVENTS, events_of_file, histories
from tests.unit.serving.fakes import ITEMS, small_bundle

Row = tuple[str, str | None, str, int, float | None]

rows = st.lists(
    st.tuples(
        st.sampled_from(["ada", "bob", "üm"]),
        st.sampled_from([*ITEMS[:4], "unknown", None]),
        st.sampled_from(["view", "purchase", "impression", "search"]),
        st.integers(0, 150),
        st.sampled_from([None, 1.5, 2.0]),
    ),
    max_size=250,
)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return small_bundle()


def as_table(rows: list[Row]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [()] * len(EVENTS)
    return pa.table(
        [pa.array(list(column), kind) for column, kind in zip(columns, EVENTS.types, strict=True)],
        schema=EVENTS,
    )


@given(rows)
def test_a_history_is_the_sequence_that_the_stream_folds(bundle: Bundle, rows: list[Row]) -> None:
    found = {each.user_id: each for each in histories(bundle, as_table(rows))}
    assert list(found) == sorted({row[0] for row in rows})
    for user_id, each in found.items():
        events = [
            Interaction(
                event_id=str(at), user_id=user, item_id=item, event_type=kind,
                timestamp=when, received_at=when, value=value,
            )
            for at, (user, item, kind, when, value) in enumerate(rows)
            if user == user_id
        ]  # fmt: skip
        sequence = visitor.fold_all(None, events).sequence
        due = stages.list_question(bundle, sequence)
        for column, wanted in zip(each.history, due.history, strict=True):
            np.testing.assert_array_equal(column, wanted)
        assert set(each.excluded.tolist()) == set(due.excluded.tolist())


def test_a_file_without_values_has_all_its_events() -> None:
    table = as_table([("ada", "a", "view", 1, None)]).drop_columns(["value"])
    (events,) = events_of_file(table.rename_columns(["user_id", *table.column_names[1:]]))
    assert events.to_pylist() == [
        {"visitor": "ada", "item_id": "a", "event_type": "view", "timestamp": 1, "value": None}
    ]
