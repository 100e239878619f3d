"""Input and result of a step of the fallback chain."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from services.serving.answers import Item, Step
from services.serving.deadlines import Budget
from services.serving.filters.filter_masks import Filter
from services.serving.model_holder import Model
from slipstream.features.visitor import SequenceEvent
from slipstream.recommender.stages import Recommendation

# A slate's items are made of the candidates that it keeps: there are many more candidates.
Candidate = Item | Recommendation
# Steps whose lists come from the online store, which keeps no former ones.
OF_STORE: Final = (Step.TRENDING, Step.POPULAR)


@dataclass(frozen=True, slots=True)
class StepRequest:
    """The input of a step: `n` items are wanted, none of `exclude`.

    Without a history, `no_history` says why. `budget` is what is left to wait for the online store.
    `fresh` asks for a list that is made now. `wanted` is what the items must meet. `window` is that
    of popular items. Into `given` go the items that steps of the online store give, with the step.
    """

    n: int
    model: Model | None
    history: Sequence[SequenceEvent]
    no_history: str
    similar_to: Sequence[str]
    exclude: frozenset[str] | set[str]
    repeats: bool | None
    budget: Budget
    fresh: bool = False
    wanted: Filter | None = None
    window: str = ""
    given: list[tuple[Step, Sequence[Candidate]]] | None = None


class StepResult(NamedTuple):
    """The items of a step, why it has none or lacks some, and the model version that gave them.

    `failed` tells that the model, or a part of it, raised.
    """

    items: Sequence[Candidate]
    reason: str = ""
    version: str | None = None
    failed: bool = False


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
