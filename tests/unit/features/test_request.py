from datetime import UTC, datetime

from slipstream.contracts.times import DAY_MS
from slipstream.features.request import RequestContext, request_features
from slipstream.features.views import REQUEST
from slipstream.features.visitor import fold_all
from tests.unit.features.strategies import event

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
