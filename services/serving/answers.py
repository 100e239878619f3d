"""Requests for recommendations and the answers to them, as serving's parts hand them on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from slipstream.contracts.events import SlateItem
from slipstream.contracts.experiments import NO_EXPERIMENT
from slipstream.contracts.placements import BoostRule, RuleTrace
from slipstream.contracts.reasons import SlateReasons
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


@dataclass(frozen=True, slots=True)
class RecommendationRequest:
    """A request for a slate.

    Attributes:
        n: Length of the slate.
        user_id: The visitor; empty for nobody in particular.
        history: Events, oldest first, instead of those that the online store holds.
        events: Events that come after those of the online store.
        similar_to: Items whose neighbours are wanted, whoever asks.
        exclude: Items that must not be in the slate.
        before: Items of the pages before this one.
        repeats: Whether items of the history may come again; None leaves it to the placement, and
            then to the model.
        placement: The place on the page, whose rules apply, and which is kept with the slate.
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
    exclude: frozenset[str] = frozenset()
    before: Sequence[str] = ()
    repeats: bool | None = None
    placement: str = ""
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


@dataclass(frozen=True, slots=True)
class Answer:
    """A slate with its explanation.

    `answered_by` is the step that gave the first items. `reason` says why no earlier step did, and
    which later steps filled the slate.

    `rules` are the accounts of the rules of the placement's revision. `touched` names the rules
    that moved each item, and `propensities` are the probabilities with which the items stand where
    they stand, both in the order of the items. All are empty where there is nothing to tell.
    `reasons` are measured by leaving out parts of the history. `experiment` is empty without one;
    `teams` names the variant that each item of an interleaved slate comes from. `substituted` says
    why the champion answered for a variant's model; empty where it did not.
    """

    recommendation_id: str
    user_id: str
    items: Sequence[Item]
    answered_by: Step
    reason: str
    model_version: str | None
    history_length: int
    placement_revision: int = 0
    rules: Sequence[RuleTrace] = ()
    touched: Sequence[Sequence[str]] = ()
    propensities: Sequence[float] = ()
    reasons: SlateReasons | None = None
    experiment: str = ""
    variant: str = NO_EXPERIMENT
    teams: Sequence[str] = ()
    substituted: str = ""
