from datetime import UTC, datetime

from slipstream.contracts.times import DAY_MS
from slipstream.features.request import (
    GAP_MS,
    RequestContext,
    request_features,
    session_features,
    session_of,
)
from slipstream.features.views import REQUEST, SESSION
from slipstream.features.visitor import fold_all
from tests.unit.features.strategies import START, event

SUNDAY = int(datetime(2026, 11, 22, 23, 30, tzinfo=UTC).timestamp() * 1000)
ITEMS = {
    "a": {"category": "shoes", "price": 50.0},
    "b": {"category": ["wool", "shoes"], "price": 100.0},
}


def test_request_features_set_the_item_against_the_visitor() -> None:
    visitor = fold_all(
        None,
        [
            event(SUNDAY - 2 * DAY_MS, "a"),
            event(SUNDAY - 2 * DAY_MS, "a", "cart"),
            event(SUNDAY + 1, "b"),
        ],
    )
    features = request_features(RequestContext(SUNDAY, "b"), visitor, ITEMS, "category")
    assert features == {
        "hour_of_day": 23,
        "day_of_week": 6,
        "days_since_last_visit": 2.0,
        "item_price": 100.0,
        "price_to_typical": 2.0,
        "in_price_band": 0,
        "item_events": 0,
        "item_affinity": 1.0,
    }
    assert tuple(features) == REQUEST.feature_names
    assert (
        request_features(RequestContext(SUNDAY, "a"), visitor, ITEMS, "category")["in_price_band"]
        == 1
    )


def test_hour_and_day_are_the_visitors_own_when_the_request_tells_the_offset() -> None:
    features = request_features(RequestContext(SUNDAY, "", 60), None, {}, "category")
    assert (features["hour_of_day"], features["day_of_week"]) == (0, 0)


def test_of_a_visitor_and_an_item_never_seen_the_defaults_are_told() -> None:
    features = request_features(RequestContext(SUNDAY, "x"), None, {}, "category")
    for feature in REQUEST.fields[2:]:
        assert features[feature.name] == feature.default, feature.name


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
