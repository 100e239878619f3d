"""Requests for recommendations and the answers to them, as serving's parts hand them on."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from slipstream.contracts.events import SlateItem
from slipstream.features.visitor import SequenceEvent
from slipstream.filters.conditions import Condition

# The longest slate that one request may ask for.
MOST_ITEMS = 100


class Step(StrEnum):
    """A step of the fallback chain, in its order. `none` stands for an answer without items."""

    MODEL = "model"
    SIMILAR = "similar"
    TRENDING = "trending"
    NONE = "none"


# A recommended item. Scores compare within one answer. Items that a later step added have score 0.
Item = SlateItem


@dataclass(frozen=True, slots=True)
class RecommendationRequest:
    """A request for a slate.

    Attributes:
        n: Length of the slate.
        user_id: The visitor; empty for nobody in particular.
        history: Events, oldest first, instead of those that the online store holds.
        similar_to: Items whose neighbours are wanted, whoever asks.
        exclude: Items that must not be in the slate.
        repeats: Whether items of the history may come again; None leaves it to the model.
        placement: The place on the page, kept with the slate.
        steps: The steps that may answer, in this order.
        fresh: Whether the model makes the list anew, though it may have been kept.
        condition: What every item of the slate must meet; None lets all.
    """

    n: int = 10
    user_id: str = ""
    history: Sequence[SequenceEvent] | None = None
    similar_to: Sequence[str] = ()
    exclude: frozenset[str] = frozenset()
    repeats: bool | None = None
    placement: str = ""
    steps: Sequence[Step] = (Step.MODEL, Step.SIMILAR, Step.TRENDING)
    fresh: bool = False
    condition: Condition | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A slate with its explanation.

    `answered_by` is the step that gave the first items. `reason` says why no earlier step did, and
    which later steps filled the slate.
    """

    recommendation_id: str
    user_id: str
    items: Sequence[Item]
    answered_by: Step
    reason: str
    model_version: str | None
    history_length: int
