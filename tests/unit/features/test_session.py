from slipstream.features.session import GAP_MS, session_features, session_of
from slipstream.features.views import SESSION
from slipstream.features.visitor import fold_all
from tests.unit.features.strategies import START, event


def test_session_is_the_newest_events_with_less_than_half_an_hour_between() -> None:
    times = (0, 10, 10 + GAP_MS, 20 + GAP_MS, 19 + 2 * GAP_MS)
    state = fold_all(None, [event(START + at, f"i{number}") for number, at in enumerate(times)])
    now = START + times[-1] + GAP_MS - 1
    assert [entry.item_id for entry in session_of(state.sequence, now)] == ["i2", "i3", "i4"]
    assert session_of(state.sequence, now + 1) == []


def test_session_ends_at_the_asked_moment() -> None:
    state = fold_all(None, [event(START, "a"), event(START + 1000, "b"), event(START + 2000, "c")])
    assert [entry.item_id for entry in session_of(state.sequence, START + 1000)] == ["a", "b"]
    assert session_of(state.sequence, START - 1) == []


def test_features_of_a_session() -> None:
    state = fold_all(
        None,
        [
            event(START, "a"),
            event(START + 60_000, "b", "cart"),
            event(START + 120_000, "a"),
            event(START + 180_000, None, "search"),
        ],
    )
    assert session_features(state, START + 240_000) == {
        "active": 1,
        "events": 3,
        "distinct_items": 2,
        "views": 2,
        "carts": 1,
        "purchases": 0,
        "minutes": 2.0,
        "minutes_since_last": 2.0,
        "items": ["a", "b"],
    }
    assert session_features(state, START + 240_000, ["minutes"]) == {"minutes": 2.0}


def test_without_a_session_features_are_the_declared_defaults() -> None:
    due = {
        feature.name: list(feature.default) if feature.default == () else feature.default
        for feature in SESSION.fields
    }
    assert session_features(None, START) == due
    assert session_features(fold_all(None, [event(START)]), START + GAP_MS) == due
