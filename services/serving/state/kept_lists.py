"""Lists of the model, kept for visitors who do nothing meanwhile.

A page asks for several slates in a row, and is opened again. A list depends on its model and its
key alone, so a kept one is what the model would answer. The key holds items and no visitor's id.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

from cachetools import TTLCache  # type: ignore[import-untyped, unused-ignore]

from slipstream.features.visitor import SequenceEvent
from slipstream.recommender.stages import Recommendation
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.catalogue.model import Model
from slipstream.slates.slate_plan import SlatePlan
from slipstream.slates.slate_request import Step
from slipstream.slates.visitor_reading import VisitorReading

# Longest time that a list is given. It is deleted at the next sweep, and with it the history of
# somebody who may have been erased meanwhile.
LIFETIME_S: Final = 240.0
SWEEP_S: Final = 60.0


class ListKey:
    """Key of a model's list: all that the list depends on beside the model.

    It is hashed once, since it holds a whole history.

    Args:
        history: The visitor's events.
        exclude: Items that are left out, of those that the model knows. A client may name others,
            of any length.
        n: Length of the list.
        repeats: Whether items of the history may come again; None leaves it to the model.
        visibility: `Catalog.visibility`, read before the list is made.
    """

    __slots__ = ("_hash", "_parts")

    def __init__(
        self,
        history: Iterable[SequenceEvent],
        exclude: Iterable[str],
        n: int,
        repeats: bool | None,
        visibility: int,
    ) -> None:
        self._parts = tuple(history), frozenset(exclude), n, repeats, visibility
        self._hash = hash(self._parts)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ListKey) and self._parts == other._parts


KeptByKey = MutableMapping[ListKey, Sequence[Recommendation]]


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


def list_key(plan: SlatePlan, visitor: VisitorReading, catalog: Catalog) -> ListKey | None:
    """The key of the list that a model makes for a plan; None where it may not be kept.

    The mask of a filter may be a second old, and a list that is kept would be so for longer.
    """
    if plan.model is None or plan.condition is not None or Step.MODEL not in plan.steps:
        return None
    space = catalog.space(plan.model)
    visible = catalog.visibility() + space.revision
    known = filter(space.__contains__, plan.excluded(visitor))
    return ListKey(visitor.history, known, plan.depth, plan.repeats, visible)
