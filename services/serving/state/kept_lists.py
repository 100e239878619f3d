"""Lists of the model, kept for visitors who do nothing meanwhile.

A page asks for several slates in a row, and is opened again. A list depends on its model and its
key alone, so a kept one is what the model would answer. The revision of a visitor's state stands
for the events, so that a kept list is found before anything is decoded. No visitor's id is kept.
"""

import asyncio
import time
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from cachetools import TTLCache  # type: ignore[import-untyped, unused-ignore]

from slipstream.contracts.circumstances import RecordedHistory
from slipstream.contracts.events import SlateItems
from slipstream.features.visitor import SequenceEvent
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.catalogue.model import Model
from slipstream.slates.slate_plan import Candidate, SlatePlan
from slipstream.slates.slate_request import Item, Step, VisitorReading

# Longest time that a list is given. It is deleted at the next sweep, and with it the history of
# somebody who may have been erased meanwhile.
LIFETIME_S: Final = 240.0
SWEEP_S: Final = 60.0
_NOTHING: Final = frozenset[str]()


# Whose list it is: the revision of a visitor's state, or the events where there is none.
Who = bytes | tuple[SequenceEvent, ...]
# All that a list depends on beside the model: whose it is, the items left out, of those that the
# model knows (a client may name others, of any length), its length, whether items of the history
# may come again, and `Catalog.visibility`, read before the list was made.
ListKey = tuple[Who, frozenset[str], int, bool | None, int]


class KeptList(NamedTuple):
    """A list of the model, and the visitor whom it was made for, whose features are of then."""

    visitor: VisitorReading
    listed: SlateItems

    @classmethod
    def of(cls, visitor: VisitorReading, listed: Sequence[Candidate]) -> "KeptList":
        """A list to be kept, without the ids of those who were merged into the visitor."""
        state = visitor.state
        if state is not None and (state.merged or state.applied):
            state = replace(state, merged={}, applied={})
        if visitor.columns is None:
            visitor.columns = RecordedHistory.columns(visitor.history)
        if not isinstance(listed, SlateItems):
            listed = SlateItems(Item(each.item_id, each.score, each.source) for each in listed)
        return cls(replace(visitor, state=state), listed)


KeptByKey = MutableMapping[ListKey, KeptList]


class KeptLists:
    """Store of the lists of each model, which go with the model. Used in one event loop.

    Args:
        most: Most lists of a model, of 10 to 15 KB each; the one not asked for the longest goes.
        clock: Seconds of a monotonic clock.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.most, self._clock = most, clock
        self._of_models: WeakKeyDictionary[Model, Any] = WeakKeyDictionary()

    def sweep(self) -> None:
        """Delete the lists whose time is over. The library does so only where a list is added."""
        for kept in self._of_models.values():
            kept.expire()

    async def sweep_for_ever(self) -> None:
        """Delete the lists whose time is over, again and again."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep()

    def of(self, model: Model) -> KeptByKey:
        """The lists of a model; one that keeps nothing where no lists are wanted."""
        if not self.most:
            return {}
        kept = self._of_models.get(model)
        if kept is None:
            kept = self._of_models[model] = TTLCache(self.most, LIFETIME_S, self._clock)
        lists: KeptByKey = kept
        return lists


def list_key(plan: SlatePlan, who: Who, catalog: Catalog) -> ListKey | None:
    """The key of the list that a model makes for a plan; None where it may not be kept.

    The mask of a filter may be a second old, and a list that is kept would be so for longer.
    """
    if plan.model is None or plan.condition is not None or Step.MODEL not in plan.steps:
        return None
    space, request = catalog.space(plan.model), plan.request
    visible = catalog.visibility() + space.revision
    hidden = (*request.exclude, *request.before, *request.similar_to)
    known = frozenset(filter(space.__contains__, hidden)) if hidden else _NOTHING
    return who, known, plan.depth, plan.repeats, visible
