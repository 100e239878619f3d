from typing import Any

import pytest

from slipstream.features.request import (
    HALF_LIFE_MS,
    NO_PRICE,
    VALUES,
    PriceBand,
    RequestContext,
    affinities,
    affinity_features,
    price_band,
    price_of,
    request_features,
    texts,
)
from slipstream.features.training_rows import AttributeHistory
from slipstream.features.views import affinity_view
from slipstream.features.visitor import fold_all
from tests.unit.features.strategies import START, event

ITEMS: dict[str, dict[str, Any]] = {
    "boots": {"category": "shoes", "price": 100, "colours": ["black", "red", "black"]},
    "clogs": {"category": "shoes", "price": "40.0"},
    "scarf": {"category": "wool", "price": 10.0},
    "gift": {"price": 0},
}


def test_affinity_is_the_share_by_event_type_and_age() -> None:
    events = [
        event(START, "boots"),
        event(START, "scarf", "purchase"),
        event(START - HALF_LIFE_MS, "clogs", "cart"),
    ]
    strongest = affinities(fold_all(None, events).sequence, ITEMS, "category", START)
    assert [value for value, _ in strongest] == ["wool", "shoes"]
    assert [share for _, share in strongest] == pytest.approx([3 / 5, 2 / 5])


def test_affinities_of_a_list_are_shared_among_its_values() -> None:
    sequence = fold_all(None, [event(START, "boots")]).sequence
    assert affinities(sequence, ITEMS, "colours", START) == [("black", 0.5), ("red", 0.5)]


def test_categories_stand_in_for_a_category_in_a_request_and_in_history() -> None:
    items = ITEMS | {"lamp": {"categories": ["light", "home"]}, "bulb": {"categories": "light"}}
    visitor = fold_all(None, [event(START, "lamp"), event(START, "boots")])
    assert affinities(visitor.sequence, items, "category", START) == [
        ("shoes", 0.5),
        ("home", 0.25),
        ("light", 0.25),
    ]
    asked = request_features(RequestContext(START, "bulb"), visitor, items, "category")
    assert asked["item_affinity"] == 0.25
    history = AttributeHistory([(name, 1, held) for name, held in items.items()])
    known = history.before(START)
    assert affinities(visitor.sequence, known, "category", START)[1] == ("home", 0.25)


def test_affinities_see_nothing_after_the_asked_moment_and_nothing_of_unknown_items() -> None:
    sequence = fold_all(
        None, [event(START, "boots"), event(START + 1, "scarf"), event(START, "unheard-of")]
    ).sequence
    assert affinities(sequence, ITEMS, "category", START) == [("shoes", 1.0)]
    assert affinities(sequence, {}, "category", START) == []


def test_price_band_is_the_weighted_quartiles() -> None:
    events = [event(START + number, "scarf") for number in range(2)] + [
        event(START, "boots", "purchase"),
        event(START, "gift"),
    ]
    band = price_band(fold_all(None, events).sequence, ITEMS, START + 1)
    assert band == PriceBand(10.0, 100.0, 100.0)
    assert price_band([], ITEMS, START) == PriceBand(NO_PRICE, NO_PRICE, NO_PRICE)


@pytest.mark.parametrize(
    "price", [None, True, "free", float("nan"), float("inf"), -1, 0, [5], 10**400, ""]
)
def test_what_is_no_price_is_not_taken_for_one(price: object) -> None:
    assert price_of({"price": price}) is None


def test_values_of_an_attribute_as_texts() -> None:
    assert texts(["a", 1, True, None, "a", {"b": 1}, ["deep"]]) == ["a", "1", "true"]
    assert texts("") == texts(None) == texts({}) == []


def test_features_are_those_that_the_view_declares() -> None:
    attributes = ("category", "colours")
    view = affinity_view(attributes)
    none = affinity_features([], ITEMS, START, attributes)
    assert none == {
        feature.name: list(feature.default) if feature.default == () else feature.default
        for feature in view.fields
    }
    many = {f"i{number}": {"category": f"c{number}", "price": 5} for number in range(30)}
    sequence = fold_all(
        None, [event(START + number, f"i{number}") for number in range(30)]
    ).sequence
    features = affinity_features(sequence, many, START + 30, attributes)
    assert tuple(features) == view.feature_names
    assert (
        len(features["category_values"]),
        features["top_category"],
        features["price_typical"],
    ) == (VALUES, "c29", 5.0)
