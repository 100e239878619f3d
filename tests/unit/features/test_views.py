"""Declared features are those that are computed."""

import pytest

from slipstream.features import item, request, visitor
from slipstream.features.views import (
    AFFINITY_ATTRIBUTES,
    ITEM,
    ITEM_NEIGHBOURS,
    RECOMMENDER,
    REGISTRY,
    REQUEST,
    SESSION,
    VISITOR,
    Feature,
    FeatureView,
    affinity_view,
    declare,
)
from tests.unit.features.strategies import START

UNKNOWN = {
    "visitor": visitor.visitor_view(None, START, VISITOR.feature_names),
    "session": request.session_features(None, START),
    "visitor_affinity": request.affinity_features([], {}, START, AFFINITY_ATTRIBUTES),
    "item": item.item_features(None, START),
    "item_neighbours": item.neighbour_features(None, START),
    "request": request.request_features(
        request.RequestContext(START), None, {}, AFFINITY_ATTRIBUTES[0]
    ),
}
PYTHON_TYPES = {"Int64": (int, float), "Float64": (int, float), "String": (str,)}


@pytest.mark.parametrize("view", REGISTRY.views, ids=lambda view: view.name)
def test_every_declared_feature_is_computed_and_nothing_else(view: FeatureView) -> None:
    assert tuple(UNKNOWN[view.name]) == view.feature_names
    assert len(set(view.feature_names)) == len(view.feature_names)


@pytest.mark.parametrize("view", REGISTRY.views, ids=lambda view: view.name)
def test_entity_never_seen_has_the_defaults(view: FeatureView) -> None:
    of_the_moment = {"hour_of_day", "day_of_week"}
    for feature in view.fields:
        if feature.name not in of_the_moment:
            assert UNKNOWN[view.name][feature.name] == (
                list(feature.default) if feature.default == () else feature.default
            )


@pytest.mark.parametrize(
    "feature", [f for view in REGISTRY.views for f in view.fields], ids=lambda feature: feature.name
)
def test_defaults_are_of_the_declared_type(feature: Feature) -> None:
    if feature.dtype.startswith("Array"):
        assert feature.default == ()
    else:
        assert isinstance(feature.default, PYTHON_TYPES[feature.dtype])
        assert feature.dtype != "Int64" or feature.default == int(feature.default)


def test_services_name_features_that_there_are() -> None:
    known = {f"{view.name}:{name}" for view in REGISTRY.views for name in view.feature_names}
    for service in REGISTRY.services:
        assert set(service.features) <= known, service.name
        assert len(set(service.features)) == len(service.features)
    assert set(RECOMMENDER.of(VISITOR)) <= set(VISITOR.numbers)
    assert RECOMMENDER.of(ITEM) == ()


def test_affinities_are_declared_for_the_attributes_that_are_configured() -> None:
    registry = declare(("colour", "colour", "size"))
    assert registry.affinity_attributes == ("colour", "size")
    view = next(view for view in registry.views if view.name == "visitor_affinity")
    assert view == affinity_view(("colour", "size"))
    assert {"top_colour", "size_values", "size_shares", "price_typical"} <= set(view.feature_names)
    assert (
        "visitor_affinity:top_size"
        in next(s for s in registry.services if s.name == "profile").features
    )


def test_views_have_the_key_of_the_state_that_they_are_read_off() -> None:
    assert [view.join_key for view in (VISITOR, SESSION, REQUEST)] == ["user_id"] * 3
    assert [view.join_key for view in (ITEM, ITEM_NEIGHBOURS)] == ["item_id"] * 2
