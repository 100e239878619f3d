"""Readings of a slate are what its circumstances and its items say."""

import pytest

from services.monitoring.item_attributes import ItemCatalogue
from services.monitoring.slate_readings import (
    MEASURES,
    NewestEvent,
    readings_of,
    visitor_of,
)
from slipstream.contracts.events import CatalogRecord
from tests.unit.monitoring.builders import T0
from tests.unit.monitoring.recorded_slates import history_of, made_of

HOUR_MS = 3_600_000


def catalogue(**brands: str) -> ItemCatalogue:
    """Items of a brand each, which is their category, too."""
    known = ItemCatalogue()
    known.take(
        CatalogRecord(
            entity="item",
            entity_id=name,
            attributes={"categories": [brand], "brand": brand, "price": 2.0},
            timestamp=1,
        )
        for name, brand in brands.items()
    )
    known.caught_up = True
    return known


def test_readings_of_what_the_model_read() -> None:
    slate = made_of("s", T0, history_of("aab", T0 - 120_000))
    values = readings_of(slate, None, None).values
    assert values["history"] == {"read": 1.0}
    assert values["history_length"] == 3
    assert values["since_last_s"] == 120
    assert values["history_age_s"] == 240
    assert values["event_gap_s"] == 60
    assert values["last_event"] == {"within an hour": 1.0}
    assert values["event_types"] == {"view": 1.0}
    assert values["items"] == pytest.approx({"a": 2 / 3, "b": 1 / 3})
    assert "categories" not in values


def test_readings_with_the_catalogue() -> None:
    slate = made_of("s", T0, history_of("aax", T0), items="ab")
    values = readings_of(slate, catalogue(a="red", b="blue", c="red"), None).values
    assert values["catalogue_items"] == {"known": 2.0, "unknown": 1.0}
    assert values["categories"] == values["brands"] == {"red": 1.0}
    assert values["price"] == 2.0
    assert values["shown_categories"] == {"red": 0.5, "blue": 0.5}
    assert values["shown_diversity"] == 1.0


def test_attributes_that_known_items_lack_are_missing() -> None:
    bare = ItemCatalogue()
    bare.take([CatalogRecord(entity="item", entity_id="a", timestamp=1)])
    values = readings_of(made_of("s", T0, history_of("a", T0)), bare, None).values
    assert (values["categories"], values["brands"], values["price"]) == ({}, {}, None)


def test_readings_of_what_the_model_said() -> None:
    slate = made_of("s", T0, source="knn", scores=(5.0, 2.0, 1.0), latency_ms=3.5)
    readings = readings_of(slate, None, None)
    assert readings.values["answered_by"] == {"model": 1.0}
    assert readings.values["sources"] == {"knn": 1.0}
    assert (readings.values["top_score"], readings.values["score_spread"]) == (5.0, 4.0)
    assert (readings.values["list_length"], readings.values["latency_ms"]) == (3, 3.5)
    assert (readings.stratum, readings.version, readings.shown) == ("home", "1", ["a", "b", "c"])


def test_a_slate_without_items_says_only_that() -> None:
    values = readings_of(made_of("s", T0, items=(), answered_by="none"), None, None).values
    assert (values["list_length"], values["answered_by"]) == (0, {"none": 1.0})
    assert not {"sources", "top_score"} & values.keys()


def test_a_history_that_could_not_be_read_says_why() -> None:
    slate = made_of("s", T0, circumstances={"no_history": "no answer within 50 ms"})
    values = readings_of(slate, None, None).values
    assert values["history"] == {"no answer within 50 ms": 1.0}


@pytest.mark.parametrize(
    "circumstances",
    [
        pytest.param({"steps": ["similar", "trending"]}, id="no model asked"),
        pytest.param({"form": 2}, id="another form"),
        pytest.param({"size": 99_999}, id="too large to be recorded"),
    ],
)
def test_nothing_was_read_where_no_model_was_asked(circumstances: dict[str, object]) -> None:
    slate = made_of("s", T0, history_of("a", T0), circumstances=circumstances)
    said = {measure.name for measure in MEASURES if measure.of == "said"}
    assert readings_of(slate, None, None).values.keys() <= said


@pytest.mark.parametrize(
    ("newest", "expected"),
    [
        (NewestEvent("b", T0 - HOUR_MS), {"read": 1.0}),
        (NewestEvent("c", T0 - HOUR_MS), {"lacking": 1.0}),
        (NewestEvent("c", T0 - 1_000), None),
    ],
)
def test_the_newest_event_is_looked_for_once_it_should_be_there(
    newest: NewestEvent, expected: dict[str, float] | None
) -> None:
    slate = made_of("s", T0, history_of("ab", T0))
    assert readings_of(slate, None, newest).values.get("newest_event") == expected


def test_events_without_times_have_no_ages() -> None:
    slate = made_of("s", T0, [("a", "view", 0, None), ("b", "view", 0, None)])
    values = readings_of(slate, None, None).values
    assert values["history_length"] == 2
    assert not {"since_last_s", "history_age_s", "event_gap_s", "last_event"} & values.keys()


def test_a_session_is_a_visitor_of_its_own_placement() -> None:
    first, second = (
        made_of(f"s{n}", T0 + n, history_of("ab", T0), user=f"anonymous:s{n}") for n in range(2)
    )
    assert visitor_of(first) == visitor_of(second) != visitor_of(made_of("s", T0, user="ada"))
    assert visitor_of(made_of("s", T0, user="anonymous:s")) == "anonymous:s"
    assert readings_of(first, None, None).stratum == "home (session)"
