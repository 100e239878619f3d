"""The request for a slate, whatever route it came by, and the reading of its visitor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from slipstream.contracts.events import SlateItem
from slipstream.contracts.placements import BoostRule
from slipstream.contracts.times import DAY_MS
from slipstream.contracts.vocabulary import SHOWN
from slipstream.features.views import RECOMMENDER, VISITOR
from slipstream.features.visitor import (
    SEQUENCE_LENGTH,
    SequenceEvent,
    VisitorState,
    fruitless_impressions,
)
from slipstream.filters.conditions import Condition
from slipstream.filters.expressions import parsed_at
from slipstream.slates.catalogue.model import Model

# The longest slate that one request may ask for.
MOST_ITEMS = 100


class Step(StrEnum):
    """A step that can answer. A request says which may, in what order.

    `none` stands for an answer without items.
    """

    MODEL = "model"
    SIMILAR = "similar"
    TRENDING = "trending"
    POPULAR = "popular"
    NEW = "new"
    RECENT = "recent"
    BOUGHT_TOGETHER = "bought_together"
    NONE = "none"


# A recommended item. Scores compare within one answer. Items that a later step added have score 0.
Item = SlateItem


@dataclass(slots=True)
class SlateRequest:
    """A request for a slate, which is never changed. A frozen one takes four times as long to make.

    Attributes:
        user_id: The visitor; empty for no particular one.
        history: Events, oldest first, instead of those that the online store holds.
        events: Events that come after those of the online store.
        similar_to: Items to find neighbours of, for any visitor.
        given: Items to be put in order, each of which counts once; None for a slate of any items.
        features: What the caller says of given items, by id; it counts instead of the catalogue's
            attributes of the same names.
        exclude: Items that must not be in the slate.
        before: Items of the pages before this one.
        repeats: Whether items of the history may come again; None leaves it to the placement, and
            then to the model.
        placement: The place on the page. Its rules apply, and the slate keeps its name.
        context: Fields of the request that rules may ask for.
        fresh: Whether the model makes a new list, though an old one may have been kept.
        filter: Expression that every item of the slate must meet; empty for all.
        boosts: Boosts in addition to those of the placement.
        diversity: From 0, the best items, to 1, the most varied ones; None leaves it to the
            placement.
        exploration: Share of places for items of which little is known; likewise.
        explain: Whether rules give an account of themselves, and items have reasons.
        deadline_s: Time after which the answer is of no use; None for any.
        purpose: What the slate is for; only one that is shown counts as an impression.
        window: Window of popular items, a key of `POPULAR_WINDOWS`; empty for none.
    """

    n: int = 10
    user_id: str = ""
    history: Sequence[SequenceEvent] | None = None
    events: Sequence[SequenceEvent] = ()
    similar_to: Sequence[str] = ()
    given: Sequence[str] | None = None
    features: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    exclude: frozenset[str] = frozenset()
    before: Sequence[str] = ()
    repeats: bool | None = None
    placement: str = ""
    with_rules: bool = True
    context: Mapping[str, Any] = field(default_factory=dict)
    steps: Sequence[Step] = (Step.MODEL, Step.SIMILAR, Step.TRENDING)
    fresh: bool = False
    filter: str = ""
    boosts: Sequence[BoostRule] = ()
    diversity: float | None = None
    exploration: float | None = None
    explain: bool = False
    deadline_s: float | None = None
    purpose: str = SHOWN
    window: str = ""

    def condition(self, now_ms: int) -> Condition | None:
        """The condition that the filter states at a time; None lets all. Raises FilterError."""
        return parsed_at(self.filter, now_ms) if self.filter else None


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
