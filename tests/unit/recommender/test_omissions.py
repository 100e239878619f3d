"""Parts of the data that an evaluation leaves out."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.evaluation.metrics import ndcg
from slipstream.models.base import EventWeights, InteractionLog
from slipstream.recommender.encoding import encode, met_items
from slipstream.recommender.omissions import Omission, compare, parse_omission, visits, withhold
from slipstream.recommender.protocols import Task, first_meetings, led_on, task_of

TYPES = ("view", "cart", "purchase")
EVENTS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from("vwxyz"),
        st.sampled_from(TYPES),
        st.integers(0, 20),
    ),
    min_size=12,
    max_size=60,
)
WEIGHTS = EventWeights()
HOUR = 3_600_000


def table_of(rows: list[tuple[str, str, str, int]]) -> pa.Table:
    user, item, kind, hour = zip(*rows, strict=True)
    return pa.table(
        {
            "user_id": pa.array(user),
            "item_id": pa.array(item),
            "event_type": pa.array(kind),
            "timestamp": pa.array([HOUR * number for number in hour], pa.int64()),
        }
    )


def without(
    table: pa.Table, protocol: str, omission: Omission
) -> tuple[InteractionLog, Task, Task]:
    ids = met_items(table, WEIGHTS)
    log = encode(table, ids, WEIGHTS)
    task = task_of(protocol, log, [], "fast", None)
    return log, task, withhold(task, log, table, ids, WEIGHTS, omission)


def omission(*types: str, lasting_id: bool = False) -> Omission:
    return Omission(frozenset(types), frozenset(), lasting_id)


@given(EVENTS, st.sampled_from(["leave-last-out", "time-split", "discovery"]))
def test_leaving_nothing_out_changes_nothing(
    rows: list[tuple[str, str, str, int]], protocol: str
) -> None:
    try:
        _, task, same = without(table_of(rows), protocol, omission())
    except ValueError:
        return  # all events at one moment
    np.testing.assert_array_equal(same.log.item, task.log.item)
    np.testing.assert_array_equal(same.log.user, task.log.user)
    assert [query.label for query in same.queries] == [query.label for query in task.queries]
    for query, other in zip(same.queries, task.queries, strict=True):
        np.testing.assert_array_equal(query.history.item, other.history.item)
    if task.holdout and same.holdout:
        np.testing.assert_array_equal(same.holdout.validation, task.holdout.validation)


@given(EVENTS, st.sampled_from(["leave-last-out", "time-split", "discovery"]))
def test_a_type_left_out_is_in_no_fit_and_no_history_and_the_questions_stay(
    rows: list[tuple[str, str, str, int]], protocol: str
) -> None:
    try:
        log, task, reduced = without(table_of(rows), protocol, omission("view"))
    except ValueError:
        return
    signals = {WEIGHTS.weight("cart"), WEIGHTS.weight("purchase")}
    assert set(reduced.log.weight.tolist()) <= signals
    assert [query.label for query in reduced.queries] == [query.label for query in task.queries]
    for query, whole in zip(reduced.queries, task.queries, strict=True):
        kept = whole.history.weight > WEIGHTS.weight("view")
        np.testing.assert_array_equal(query.history.item, whole.history.item[kept])
    np.testing.assert_array_equal(reduced.log.item, log.item[reduced.fitted])
    if task.holdout and reduced.holdout:
        validation = task.fitted[task.holdout.validation]
        theirs = log.item[validation][log.weight[validation] > 1]
        np.testing.assert_array_equal(reduced.log.item[reduced.holdout.validation], theirs)


def test_without_a_lasting_id_a_history_begins_with_the_visit() -> None:
    rows = [("a", "v", "view", 0), ("a", "w", "view", 0), ("a", "x", "view", 5)]
    table = table_of([*rows, ("a", "y", "view", 5), ("b", "z", "view", 6)])
    log, task, reduced = without(table, "leave-last-out", omission(lasting_id=True))
    assert visits(log).tolist() == [0, 0, 1, 1, 2]
    (whole,), (query,) = task.queries, reduced.queries
    assert whole.history.item.tolist() == [0, 1, 2]
    assert query.history.item.tolist() == [2]
    assert query.label == whole.label == 3
    assert reduced.log.user.tolist() == [0, 0, 1, 1, 2]


def test_an_item_shown_counts_as_taken_only_by_an_event_that_was_sent() -> None:
    rows = [("a", "v", "impression", 0), ("a", "v", "view", 1), ("a", "w", "cart", 2)]
    table = table_of([*rows, ("b", "w", "view", 3), ("b", "v", "cart", 4), ("b", "x", "cart", 9)])
    lists = ["r", "r", None, None, None, None]
    table = table.append_column("recommendation_id", pa.array(lists))
    table = table.append_column("position", pa.array([0, 0, None, None, None, None], pa.int64()))
    for left_out, taken in (((), [True]), (("view",), [False])):
        _, _, reduced = without(table, "time-split", omission(*left_out))
        assert reduced.log.impressions is not None
        assert reduced.log.impressions.taken.tolist() == taken
    assert without(table, "time-split", omission("impression"))[2].log.impressions is None


def test_discovery_asks_for_items_that_the_visitor_has_not_met() -> None:
    rows = [("a", item, "view", hour) for hour, item in enumerate("vwvxvyxz")]
    _, task, _ = without(table_of(rows), "discovery", omission())
    assert task.repeats is False
    assert [query.label for query in task.queries] == [4]  # z; x was met before the split
    assert [len(query.history.item) for query in task.queries] == [7]


def test_a_first_event_led_on_where_its_item_was_bought_later() -> None:
    rows = [("a", "v", "view", 0), ("a", "w", "view", 1), ("a", "v", "view", 2)]
    table = table_of([*rows, ("a", "v", "cart", 3), ("b", "v", "view", 4)])
    log = encode(table, met_items(table, WEIGHTS), WEIGHTS)
    assert first_meetings(log).tolist() == [True, True, False, False, True]
    assert led_on(log).tolist() == [True, False, False, False, False]


def test_nothing_to_fit_on_is_an_error() -> None:
    rows = [("a", item, "view", hour) for hour, item in enumerate("vwxyz")]
    with pytest.raises(ValueError, match="nothing is left to fit on"):
        without(table_of(rows), "time-split", omission("view"))


def test_a_part_is_named_by_types_and_attributes() -> None:
    types, names = ["view", "cart"], ["brand", "price"]
    assert parse_omission("cart + attribute:brand", types, names) == Omission(
        frozenset({"cart"}), frozenset({"brand"}), False
    )
    assert parse_omission("attributes+lasting-id", types, names) == Omission(
        frozenset(), frozenset(names), True
    )
    left = parse_omission("attribute:brand", types, names).described(
        {"x": {"brand": "b", "price": 1}, "y": {"price": 2}}
    )
    assert left == {"x": {"price": 1}, "y": {"price": 2}}
    with pytest.raises(ValueError, match=r"no 'Kauf'.* are cart, view, attribute:brand, .*lasting"):
        parse_omission("Kauf", types, names)
    with pytest.raises(ValueError, match="there are view, lasting-id"):
        parse_omission("attributes", ["view"], [])


def test_changes_are_paired_on_the_queries() -> None:
    whole, reduced = np.array([0, 0, 5]), np.array([0, 1, 5])
    masks = {"all": np.ones(3, np.bool_), "some": np.array([True, False, False])}
    found = compare(whole, reduced, masks, {"ndcg@2": lambda ranks: ndcg(ranks, 2)}, seed=0)
    assert found["some"]["ndcg@2"] == {
        "value": 1.0,
        "change": {"value": 0.0, "low": 0.0, "high": 0.0},
    }
    change = found["all"]["ndcg@2"]["change"]
    assert change["value"] == pytest.approx((1 / np.log2(3) - 1) / 3)
    assert change["low"] <= change["value"] <= change["high"] <= 0
