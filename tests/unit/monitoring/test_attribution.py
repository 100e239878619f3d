"""Which slate a response belongs to, and what the counts are made of."""

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.monitoring.attribution import (
    Bucket,
    Counts,
    Outcome,
    Response,
    ShownSlate,
    Watermark,
    arrivals,
    attribute,
    join,
    outcome,
)
from slipstream.broker.records import Message
from slipstream.contracts.events import (
    FeatureUpdate,
    Interaction,
    ModelEvent,
    ModelEventType,
    Slate,
    SlateItem,
)
from slipstream.contracts.positions import Source
from tests.unit.monitoring.builders import T0, WINDOW_MS, recorded, response, shown
from tests.unit.monitoring.strategies import traffic
from tests.unit.monitoring.whole_tally import tally


def _attributed(event: Response, *slates: ShownSlate) -> str | None:
    found = attribute(event, slates, WINDOW_MS)
    return found.recommendation_id if found else None


def test_attribute_takes_the_named_slate_over_a_newer_one() -> None:
    assert (
        _attributed(response("e", at=20, named="old"), shown("old", at=0), shown("new", at=10))
        == "old"
    )


def test_attribute_takes_the_named_slate_however_long_ago() -> None:
    assert _attributed(response("e", at=10 * WINDOW_MS, named="old"), shown("old")) == "old"


def test_attribute_refuses_a_named_slate_without_the_item() -> None:
    assert (
        _attributed(response("e", item="x", named="s1"), shown("s1"), shown("s2", items="x"))
        is None
    )


def test_attribute_takes_the_newest_slate_that_contains_the_item() -> None:
    slates = [
        shown("first", at=0),
        shown("second", at=100),
        shown("other items", at=200, items="xyz"),
    ]
    assert _attributed(response("e", at=300), *slates) == "second"


@pytest.mark.parametrize(
    ("at", "found"), [(-1, None), (0, "s1"), (WINDOW_MS, "s1"), (WINDOW_MS + 1, None)]
)
def test_attribute_keeps_to_the_window_after_the_slate(at: int, found: str | None) -> None:
    assert _attributed(response("e", at=at), shown("s1", at=0)) == found


def test_attribute_ignores_slates_of_other_visitors() -> None:
    assert _attributed(response("e", user="u1"), shown("s1", user="u2")) is None


@pytest.mark.parametrize("event_type", ["search", "impression", "remove"])
def test_response_of_an_interaction_without_signal_is_none(event_type: str) -> None:
    event = Interaction(
        event_id="e", event_type=event_type, user_id="u", item_id="a", timestamp=T0, received_at=T0
    )
    assert Response.of(event) is None


def test_response_of_an_interaction_without_an_item_is_none() -> None:
    assert (
        Response.of(
            Interaction(event_id="e", event_type="view", user_id="u", timestamp=T0, received_at=T0)
        )
        is None
    )


@pytest.mark.parametrize(
    ("event_type", "converted"),
    [("view", False), ("click", False), ("cart", True), ("purchase", True)],
)
def test_response_of_an_interaction_tells_conversions_from_clicks(
    event_type: str, converted: bool
) -> None:
    event = Interaction(
        event_id="e", event_type=event_type, user_id="u", item_id="a", timestamp=T0, received_at=T0
    )
    assert Response.of(event) == Response("e", "u", "a", T0, converted, None)


def test_response_that_a_page_sent_in_a_users_name_is_its_anonymous_visitors() -> None:
    event = Interaction(
        event_id="e", event_type="click", user_id="a1~unproven", anonymous_id="a1", item_id="a",
        timestamp=T0, received_at=T0,
    )  # fmt: skip
    assert Response.of(event) == Response("e", "a1", "a", T0, False, None)


def test_shown_slate_of_a_record_keeps_each_item_once() -> None:
    items = [SlateItem(item_id=i, score=1.0, source="ease") for i in ("a", "b", "a")]
    record = Slate(
        recommendation_id="s", user_id="u", timestamp=T0, items=items, answered_by="trending"
    )
    assert ShownSlate.of(recorded(record)) == ShownSlate(
        "s", "u", T0, "trending", "", frozenset("ab")
    )


def test_outcome_counts_each_item_once_a_kind() -> None:
    assert outcome([("a", False), ("a", False), ("b", False), ("a", True), ("a", True)]) == Outcome(
        clicked=2, converted=1
    )


def test_tally_counts_a_slate_once_however_many_of_its_items_were_clicked() -> None:
    responses = [
        response("e1", "a"),
        response("e2", "a"),
        response("e3", "b"),
        response("e4", "c", converted=True),
    ]
    assert tally([shown(), shown("empty", items="")], responses, WINDOW_MS).buckets == {
        Bucket(T0 - T0 % 300_000, "1", "model"): Counts(
            slates=2,
            shown=1,
            items=3,
            clicked_slates=1,
            clicked_items=2,
            converted_slates=1,
            converted_items=1,
        )
    }


@settings(deadline=None)
@given(traffic(), st.randoms(use_true_random=False))
def test_join_and_tally_depend_on_neither_order_nor_repetition(
    events: tuple[list[ShownSlate], list[Response]], random: Random
) -> None:
    slates, responses = events
    again_slates, again_responses = slates * 2, responses * 2
    random.shuffle(again_slates)
    random.shuffle(again_responses)
    by_id = {slate.recommendation_id: slate for slate in slates}
    shuffled = {slate.recommendation_id: slate for slate in again_slates}
    assert join(shuffled, again_responses, WINDOW_MS) == join(by_id, responses, WINDOW_MS)
    assert tally(again_slates, again_responses, WINDOW_MS) == tally(slates, responses, WINDOW_MS)


def _messages(*records: Any) -> list[Message[Any]]:
    return [
        Message(
            Source("any", "id", 0),
            offset,
            "",
            recorded(record) if isinstance(record, Slate) else record,
            "",
        )
        for offset, record in enumerate(records)
    ]


def _interaction(event_id: str, at: int, **more: Any) -> Interaction:
    values: dict[str, Any] = {
        "event_type": "view",
        "user_id": "u",
        "item_id": "a",
        "received_at": T0,
    } | more
    return Interaction(event_id=event_id, timestamp=T0 + at, **values)


def _slate(slate_id: str, at: int) -> Slate:
    items = [SlateItem(item_id="a", score=1.0, source="ease")]
    return Slate(
        recommendation_id=slate_id,
        user_id="u",
        timestamp=T0 + at,
        items=items,
        answered_by="model",
    )


def test_arrivals_leave_out_slates_that_may_be_forgotten_already() -> None:
    brought = arrivals(_messages(_slate("old", -1), _slate("new", 0)), T0)
    assert [slate.recommendation_id for slate in brought.slates] == ["new"]
    (answer,) = brought.answers
    assert (answer.source, answer.offset, answer.items) == ("id:0", 1, 1)
    assert brought.watermarks == {"recommendations.v1": Watermark(T0, T0)}


def test_arrivals_leave_out_slates_that_nobody_saw() -> None:
    unseen = [_slate(kind, 0).model_copy(update={"purpose": kind}) for kind in ("ranked", "batch")]
    brought = arrivals(_messages(*unseen, _slate("seen", 0)), T0)
    assert [slate.recommendation_id for slate in brought.slates] == ["seen"]


def test_shadows_come_apart_from_slates() -> None:
    shadows = [_slate(f"s{at}", at).model_copy(update={"purpose": "shadow"}) for at in (-1, 0)]
    brought = arrivals(_messages(*shadows), T0)
    assert ([it.recommendation_id for it in brought.shadows], brought.slates) == (["s0"], [])


def test_arrivals_leave_out_old_interactions_unless_they_name_a_slate() -> None:
    brought = arrivals(
        _messages(_interaction("old", -1), _interaction("named", -1, recommendation_id="s")), T0
    )
    assert [response.event_id for response in brought.responses] == ["named"]


def test_arrivals_mark_how_far_interactions_and_features_have_come() -> None:
    update = FeatureUpdate(
        view="visitor", entity_id="u", features={}, watermark=T0 + 7, updated_at=T0 + 9
    )
    brought = arrivals(
        _messages(_interaction("e1", 5), _interaction("e2", 3, event_type="search"), update), T0
    )
    assert brought.watermarks == {
        "interactions.v1": Watermark(T0 + 5, T0),
        "feature-updates.v1": Watermark(T0 + 7, T0 + 9),
    }


def test_arrivals_keep_model_events() -> None:
    event = ModelEvent(event=ModelEventType.PROMOTED, version="2", timestamp=T0)
    assert arrivals(_messages(event), T0).model_events == [event]
