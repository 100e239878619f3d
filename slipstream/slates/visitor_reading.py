"""The reading of a visitor: the history that a slate is made from, and the features beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from slipstream.contracts.times import DAY_MS
from slipstream.features.fatigue import fruitless_impressions
from slipstream.features.views import RECOMMENDER, VISITOR
from slipstream.features.visitor import SEQUENCE_LENGTH, SequenceEvent, VisitorState
from slipstream.slates.catalogue.model import Model
from slipstream.slates.slate_request import SlateRequest

# The features of a visitor that a slate is recorded with.
RECORDED: Final = RECOMMENDER.of(VISITOR)


@dataclass(slots=True)
class VisitorReading:
    """A visitor's history and features. `problem` says why there is no history, or only a part.

    `state` is all that the online store knows; None where it knows nothing, or was not asked.
    `columns` is the history as it is recorded, where that was made before.
    """

    history: Sequence[SequenceEvent] = ()
    features: dict[str, float] = field(default_factory=dict)
    problem: str = ""
    state: VisitorState | None = None
    columns: Mapping[str, Any] | None = None

    def fruitless(self, now_ms: int) -> Mapping[str, int]:
        """The number of impressions without a response of each item, within a day."""
        return fruitless_impressions(self.state, now_ms, DAY_MS)


def told_visitor(request: SlateRequest) -> VisitorReading | None:
    """The visitor as the request tells of them; None where the online store is to be asked."""
    if request.history is not None:
        problem = "" if request.history else "the history is empty"
        return VisitorReading(request.history, problem=problem)
    if not request.user_id:
        return VisitorReading(request.events, problem="no visitor is named")
    return None


def unread_visitor(request: SlateRequest) -> VisitorReading:
    """The visitor while the online store does not answer."""
    return VisitorReading(
        request.events,
        problem="the online store does not answer, so the visitor's history is not known",
    )


def read_visitor(request: SlateRequest, state: VisitorState | None) -> VisitorReading:
    """The visitor by a state of the online store, with the request's own events at the end."""
    stored = state.sequence if state is not None else ()
    events = request.events
    history = [*stored, *events][-SEQUENCE_LENGTH:] if events else stored
    problem = ""
    if not history:
        problem = (
            "the visitor is not known"
            if state is None
            else "the visitor has done nothing with items yet"
        )
    return VisitorReading(history, {}, problem, state)


def why_not_model(model: Model | None, history: Sequence[SequenceEvent], no_history: str) -> str:
    """The reason why the model can't answer for this history; empty when it can."""
    if model is None:
        return "; ".join(filter(None, ("no model is loaded yet", no_history)))
    if not history:
        return no_history
    index, weights = model.bundle.index, model.bundle.event_weights
    if any(
        event.item_id in index and weights.weight(event.event_type, event.value) > 0
        for event in reversed(history)
    ):
        return ""
    return "the model knows none of the items of the history"
