"""Lists of the model, kept for visitors who do nothing meanwhile.

A page asks for several slates at once, and is opened again. A list depends on nothing but its key,
so a kept one is what the model would answer. The key holds items and no visitor's id.
"""

import time
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from typing import Final
from weakref import WeakKeyDictionary

from cachetools import TTLCache  # type: ignore[import-untyped, unused-ignore]

from services.serving.model_holder import Model
from slipstream.features.visitor import SequenceEvent
from slipstream.recommender.stages import Recommendation

# Longest time that a list is kept, and with it the history of somebody who may be erased meanwhile.
LIFETIME_S: Final = 300.0


class ListKey:
    """All that a model's list depends on. It is hashed once, since it holds a whole history.

    Args:
        history: The visitor's events.
        exclude: Items that are left out.
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
    """The lists of each model in service, which go with the model. Used in one event loop.

    Args:
        most: Most lists of a model, of 10 to 15 KB each; the one not asked for the longest goes.
        clock: Seconds of a monotonic clock.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._of_models: WeakKeyDictionary[Model, KeptByKey] = WeakKeyDictionary()

    def of(self, model: Model) -> KeptByKey:
        """The lists of a model; one that keeps nothing where no lists are wanted."""
        if not self._most:
            return {}
        kept = self._of_models.get(model)
        if kept is None:
            kept = self._of_models[model] = TTLCache(self._most, LIFETIME_S, self._clock)
        return kept
