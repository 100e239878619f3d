"""Masks of filters over the items of a model, kept for as long as the catalogue stays as it is.

A mask of a million items takes 18 ms. One of so many is made in a thread, so that it holds up none
but those who need it.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
from cachetools import LRUCache  # type: ignore[import-untyped, unused-ignore]

from slipstream.filters.conditions import All, Condition, Own, depends_on_visitor
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.catalogue.masks import Filter, ItemMask, mask
from slipstream.slates.catalogue.model import Model

# Most bytes of a model's masks; each has a byte for each item, twice. The least recently used one
# goes.
_MOST_BYTES: Final = 64 * 2**20
# Longest time that a mask is used after a change of the catalogue, so that one that changes all
# the time costs a mask a second, not one a request.
FRESH_S: Final = 1.0
# Items from which a mask is made in a thread; fewer take less time than its start and end.
_MANY: Final = 50_000
_NOBODY: Final[Mapping[Own, Collection[str]]] = dict.fromkeys(Own, ())


@dataclass(slots=True)
class _Kept:
    holds: ItemMask
    changes: int
    made_at: float
    allowed: ItemMask
    visibility: int = -1


class FilterMasks:
    """Which items of a model pass a filter and may be shown. Used in one event loop.

    Args:
        catalog: Availability and attributes of items.
        clock: Seconds of a monotonic clock.
    """

    def __init__(self, catalog: Catalog, clock: Callable[[], float] = time.monotonic) -> None:
        self._catalog, self._clock = catalog, clock
        self._of_models: WeakKeyDictionary[Model, LRUCache[Condition, _Kept]] = WeakKeyDictionary()
        self._making: dict[tuple[Model, Condition], asyncio.Task[_Kept]] = {}

    async def allowed(self, model: Model, wanted: Filter) -> ItemMask:
        """Whether each item of the model's space may be shown now.

        The same array comes again while nothing changes, unless the condition depends on the
        visitor; don't write to it. Items that came after it was made are left out.
        """
        condition, personal = _divided(wanted.condition)
        allowed = (
            self._catalog.mask(model)
            if condition is None
            else self._shown(model, await self._general(model, condition))
        )
        if personal is None:
            return allowed
        theirs = await self._made(personal, model, wanted.own)
        size = min(len(allowed), len(theirs))
        return np.logical_and(allowed[:size], theirs[:size])

    async def _general(self, model: Model, condition: Condition) -> _Kept:
        """The mask of a condition that is the same for all visitors. All who need it wait for it
        together.
        """
        masks = self._of_models.get(model)
        if masks is None:
            masks = self._of_models[model] = LRUCache(_MOST_BYTES, lambda one: 2 * len(one.holds))
        kept: _Kept | None = masks.get(condition)
        if kept is not None and (
            kept.changes == self._catalog.changes or self._clock() - kept.made_at < FRESH_S
        ):
            return kept
        making = self._making.get((model, condition))
        if making is None:
            making = asyncio.create_task(self._make(model, condition))
            self._making[model, condition] = making
            making.add_done_callback(lambda _: self._making.pop((model, condition)))
        kept = await asyncio.shield(making)
        with suppress(ValueError):  # larger than all that is kept
            masks[condition] = kept
        return kept

    async def _make(self, model: Model, condition: Condition) -> _Kept:
        changes, now = self._catalog.changes, self._clock()
        holds = await self._made(condition, model, _NOBODY)
        return _Kept(holds, changes, now, holds)

    async def _made(
        self, condition: Condition, model: Model, own: Mapping[Own, Collection[str]]
    ) -> ItemMask:
        items = self._catalog.of_model(model)
        if len(items.rows) < _MANY:
            return mask(condition, items, own)
        return await asyncio.to_thread(mask, condition, items, own)

    def _shown(self, model: Model, kept: _Kept) -> ItemMask:
        visibility = self._catalog.visibility()
        if kept.visibility != visibility:
            shown = self._catalog.mask(model)
            size = min(len(shown), len(kept.holds))
            kept.allowed = np.logical_and(shown[:size], kept.holds[:size])
            kept.visibility = visibility
        return kept.allowed


def _divided(condition: Condition) -> tuple[Condition | None, Condition | None]:
    """What is the same for all visitors, and what is not; None where there is nothing of it."""
    if not depends_on_visitor(condition):
        return condition, None
    if not isinstance(condition, All):
        return None, condition
    parts: dict[bool, list[Condition]] = {False: [], True: []}
    for each in condition.conditions:
        parts[depends_on_visitor(each)].append(each)
    return (All(tuple(parts[False])) if parts[False] else None), All(tuple(parts[True]))
