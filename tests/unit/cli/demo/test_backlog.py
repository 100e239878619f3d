import pyarrow as pa

from slipstream_cli.demo.backlog import missing_events

EVENTS = pa.table(
    {"user_id": ["a", "b", "a", "a"], "item_id": ["3", "1", "1", "2"], "timestamp": [30, 5, 10, 20]}
)


def test_missing_events_are_the_last_of_each_visitor() -> None:
    missing = missing_events(EVENTS, {"a": 2, "b": 0}.__getitem__)
    assert list(
        zip(missing["user_id"].to_pylist(), missing["timestamp"].to_pylist(), strict=True)
    ) == [("b", 5), ("a", 30)]


def test_missing_events_are_none_when_all_are_stored() -> None:
    assert missing_events(EVENTS, {"a": 3, "b": 9}.__getitem__).num_rows == 0
    assert missing_events(EVENTS, lambda _: 0).num_rows == 4
