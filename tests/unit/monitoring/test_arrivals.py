"""What is taken from the topics, and what is left out."""

from typing import Any

from services.monitoring.arrivals import Watermark, arrivals
from slipstream.broker.batch import Message
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
        features={"views": 3.0},
    )


def test_arrivals_leave_out_slates_that_may_be_forgotten_already() -> None:
    brought = arrivals(_messages(_slate("old", -1), _slate("new", 0)), T0)
    assert [slate.recommendation_id for slate in brought.slates] == ["new"]
    assert brought.features == {"new": {"views": 3.0}}


def test_arrivals_leave_out_slates_that_nobody_saw() -> None:
    unseen = [_slate(kind, 0).model_copy(update={"purpose": kind}) for kind in ("ranked", "batch")]
    brought = arrivals(_messages(*unseen, _slate("seen", 0)), T0)
    assert [slate.recommendation_id for slate in brought.slates] == ["seen"]
    assert brought.features.keys() == {"seen"}


def test_shadows_come_apart_from_slates() -> None:
    shadows = [_slate(f"s{at}", at).model_copy(update={"purpose": "shadow"}) for at in (-1, 0)]
    brought = arrivals(_messages(*shadows), T0)
    assert ([it.recommendation_id for it in brought.shadows], brought.slates) == (["s0"], [])
    assert brought.features == {}


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
