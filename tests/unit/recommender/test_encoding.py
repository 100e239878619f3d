import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from slipstream.models.base import EventWeights
from slipstream.recommender.encoding import attributes, encode, event_weights, met_items, queries

ROWS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from(["x", "y", "z"]),
        st.sampled_from(["view", "search", "rate", "purchase"]),
        st.integers(0, 5),
        st.none() | st.floats(0, 5),
    ),
    max_size=30,
)


def _table(rows: list[tuple[str, str, str, int, float | None]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * 5
    types = (pa.string(), pa.string(), pa.string(), pa.int64(), pa.float64())
    names = ("user_id", "item_id", "event_type", "timestamp", "value")
    return pa.table(
        {
            name: pa.array(column, type_)
            for name, column, type_ in zip(names, columns, types, strict=True)
        }
    )


@given(ROWS)
def test_encode_sorts_by_user_and_time_and_keeps_the_order_of_the_table(
    rows: list[tuple[str, str, str, int, float | None]],
) -> None:
    table = _table(rows)
    ids = met_items(table, EventWeights())
    log = encode(table, ids, EventWeights())
    expected: dict[str, list[tuple[int, str]]] = {}
    for user, item, event_type, timestamp, _ in rows:
        if event_type != "search":
            expected.setdefault(user, []).append((timestamp, item))
    lists = [[ids[item] for item in log.item[log.user == user]] for user in np.unique(log.user)]
    wanted = [
        [item for _, item in sorted(events, key=lambda event: event[0])]
        for events in expected.values()
    ]
    assert sorted(lists) == sorted(wanted)
    assert (np.diff(log.user) >= 0).all()


@given(ROWS, st.none() | st.just(5.0))
def test_event_weights_of_a_table_are_those_of_each_event(
    rows: list[tuple[str, str, str, int, float | None]], scale: float | None
) -> None:
    weights = EventWeights(rating_scale=scale)
    expected = [weights.weight(event_type, value) for _, _, event_type, _, value in rows]
    np.testing.assert_allclose(
        event_weights(_table(rows), weights), expected, rtol=1e-6, atol=1e-30
    )


def test_queries_have_the_earlier_events_of_the_same_user() -> None:
    table = _table(
        [("a", "x", "view", 1, None), ("a", "y", "view", 2, None), ("b", "z", "view", 3, None)]
    )
    log = encode(table, met_items(table, EventWeights()), EventWeights())
    first, second = queries(log, np.array([1, 2]))
    assert (first.history.item.tolist(), first.label) == ([0], 1)
    assert (second.history.item.tolist(), second.label) == ([], 2)


def test_met_items_are_those_of_events_with_a_weight() -> None:
    rows = [("a", "y", "view", 1), ("a", "x", "cart", 2), ("b", "shown", "impression", 3)]
    table = _table([(*row, None) for row in [*rows, ("b", "z", "search", 4)]])
    assert met_items(table, EventWeights()) == ["x", "y"]
    assert met_items(table, EventWeights({"view": 0.0, "impression": 1.0})) == ["shown", "x", "z"]


def test_attributes_of_items_have_no_nulls() -> None:
    items = pa.table({"item_id": ["new", "x"], "title": ["New", None]})
    assert attributes(items, ["x"]) == {"x": {}}
    assert attributes(items, ["new", "x"]) == {"new": {"title": "New"}, "x": {}}


def test_what_was_shown_is_taken_where_a_signal_names_the_same_list() -> None:
    rows = [
        ("u", "a", "impression", 1, "r1", 0),
        ("u", "b", "impression", 1, "r1", 1),
        ("u", "b", "view", 2, "r1", 1),
        ("v", "b", "impression", 3, "r2", 0),
        ("v", "b", "view", 4, None, None),
        ("v", "a", "impression", 5, None, 0),
        ("v", "zzz", "impression", 5, "r2", 2),
        ("v", "a", "search", 6, "r2", None),
    ]
    columns = zip(*rows, strict=True)
    names = ("user_id", "item_id", "event_type", "timestamp", "recommendation_id", "position")
    kinds = (pa.string(), pa.string(), pa.string(), pa.int64(), pa.string(), pa.int64())
    table = pa.table(
        {
            name: pa.array(column, kind)
            for name, column, kind in zip(names, columns, kinds, strict=True)
        }
    )
    log = encode(table, ["a", "b"], EventWeights())
    shown = log.impressions
    assert shown is not None
    assert list(
        zip(shown.item.tolist(), shown.position.tolist(), shown.taken.tolist(), strict=True)
    ) == [
        (0, 0, False),
        (1, 1, True),
        (1, 0, False),
    ]
    first = log.select(log.timestamp <= 2).impressions
    assert first is not None
    assert len(first.item) == 2


def test_a_cart_or_purchase_of_greater_value_can_count_more() -> None:
    weights = EventWeights(usual_value=100.0)
    events = [
        ("view", 400.0),
        ("purchase", 100.0),
        ("purchase", 400.0),
        ("purchase", 10_000.0),
        ("cart", 1.0),
        ("cart", None),
    ]
    table = pa.table(
        {
            "event_type": [kind for kind, _ in events],
            "value": pa.array([value for _, value in events], pa.float64()),
        }
    )
    assert event_weights(table, weights).tolist() == [1, 3, 6, 6, 1, 2]
    assert [weights.weight(kind, value) for kind, value in events] == [1, 3, 6, 6, 1, 2]
