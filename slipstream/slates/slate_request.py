"""The request for a slate, whatever route it came by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from slipstream.contracts.events import SlateItem
from slipstream.contracts.placements import BoostRule
from slipstream.contracts.vocabulary import SHOWN
from slipstream.features.visitor import SequenceEvent
from slipstream.filters.conditions import Condition
from slipstream.filters.expressions import parsed

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
    """A request for a slate, which nobody changes. A frozen one takes four times as long to make.

    Attributes:
        n: Length of the slate.
        user_id: The visitor; empty for nobody in particular.
        history: Events, oldest first, instead of those that the online store holds.
        events: Events that come after those of the online store.
        similar_to: Items whose neighbours are wanted, whoever asks.
        given: Items to be put in order, each of which counts once; None for a slate of any items.
        features: What the caller says of given items, by id; it counts instead of the catalogue's
            attributes of the same names.
        exclude: Items that must not be in the slate.
        before: Items of the pages before this one.
        repeats: Whether items of the history may come again; None leaves it to the placement, and
            then to the model.
        placement: The place on the page, whose rules apply, and which is kept with the slate.
        with_rules: Whether the placement's rules apply.
        context: Fields of the request that rules may ask for.
        steps: The steps that may answer, in this order.
        fresh: Whether the model makes the list anew, though it may have been kept.
        filter: Expression that every item of the slate must meet; empty for all.
        boosts: Boosts beside those of the placement.
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

    @property
    def condition(self) -> Condition | None:
        """The condition that the filter states; None lets all. Raises FilterError."""
        return parsed(self.filter) if self.filter else None
