"""What a batch brings, and how shadows are compared with what was shown."""

from typing import Any

import pytest

from services.monitoring.arrivals import Arrivals, ArrivalSorter, Watermark
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
from tests.unit.monitoring.builders import T0, recorded


def sort(messages: list[Message[Any]], oldest_ms: int) -> Arrivals:
    return ArrivalSorter().sort(messages, oldest_ms)


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
    brought = sort(_messages(_slate("old", -1), _slate("new", 0)), T0)
    (answer,) = brought.answers
    assert (answer.source, answer.offset, answer.items) == ("id:0", 1, 1)
    assert brought.watermarks == {"recommendations.v1": Watermark(T0, T0)}


def test_arrivals_leave_out_slates_that_nobody_saw() -> None:
    unseen = [_slate(kind, 0).model_copy(update={"purpose": kind}) for kind in ("ranked", "batch")]
    brought = sort(_messages(*unseen, _slate("seen", 0)), T0)
    assert [answer.offset for answer in brought.answers] == [2]


def test_shadows_come_apart_from_slates() -> None:
    shadows = [_slate(f"s{at}", at).model_copy(update={"purpose": "shadow"}) for at in (-1, 0)]
    brought = sort(_messages(*shadows), T0)
    assert [it.slate.recommendation_id for it in brought.shadows] == ["s0"]
    assert brought.answers == []


def test_arrivals_mark_how_far_interactions_and_features_have_come() -> None:
    update = FeatureUpdate(
        view="visitor", entity_id="u", features={}, watermark=T0 + 7, updated_at=T0 + 9
    )
    brought = sort(
        _messages(_interaction("e1", 5), _interaction("e2", 3, event_type="search"), update), T0
    )
    assert brought.watermarks == {
        "interactions.v1": Watermark(T0 + 5, T0),
        "feature-updates.v1": Watermark(T0 + 7, T0 + 9),
    }


def test_arrivals_keep_model_events() -> None:
    event = ModelEvent(event=ModelEventType.PROMOTED, version="2", timestamp=T0)
    assert sort(_messages(event), T0).model_events == [event]


def in_trial(slate_id: str, items: str, **more: Any) -> Slate:
    made = [SlateItem(item_id=each, score=1.0, source="ease") for each in items]
    return _slate(slate_id, 0).model_copy(update={"items": made, "experiment": "e", **more})


def shadow_of(slate_id: str, items: str) -> Slate:
    return in_trial(f"shadow of {slate_id}", items, purpose="shadow", shadow_of=slate_id)


def test_shadows_are_compared_with_lists_of_the_same_batch_or_an_earlier_one() -> None:
    sorter = ArrivalSorter()
    first = sorter.sort(_messages(in_trial("1", "wxyz"), in_trial("2", "")), T0)
    assert len(first.answers) == 2
    shown = in_trial("3", "ab")
    later = _messages(
        *(shadow_of("1", "wqrs"), shadow_of("2", "ab"), shown, shadow_of("3", "ab")),
        shadow_of("unknown", "ab"),
    )
    assert [it.overlap for it in sorter.sort(later, T0).shadows] == [0.25, None, 1.0, None]


def test_only_so_many_lists_wait_for_their_shadows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.monitoring.arrivals._REMEMBERED", 2)
    sorter = ArrivalSorter()
    sorter.sort(_messages(*(in_trial(str(n), "ab") for n in range(3))), T0)
    found = sorter.sort(_messages(*(shadow_of(str(n), "ab") for n in range(3))), T0)
    assert [it.overlap for it in found.shadows] == [None, 1.0, 1.0]
