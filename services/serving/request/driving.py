"""The driving of a slate's making: what it asks for comes from kernels, store and threads."""

import asyncio
from typing import Any

from services.serving.metrics import ServingMetrics
from services.serving.request.gathered_lists import GatheredLists
from services.serving.request.store_reads import Budget
from services.serving.request.trending import DemandSource
from services.serving.state.filter_masks import FilterMasks
from services.serving.state.kept_lists import KeptList, KeptLists, Who, list_key
from slipstream.slates import given_items, making
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.slate_plan import (
    DemandAsked,
    ListAsked,
    MadeSlate,
    Making,
    MaskAsked,
    SlatePlan,
    WorkAsked,
)
from slipstream.slates.slate_request import VisitorReading


class Driver:
    """The making of slates with servers and threads behind it. Used in one event loop.

    Args:
        catalog: Availability and attributes of items.
        measured: Metrics.
        lists: Calls of the model's kernels, which requests share.
        demand: Lists of demand.
        kept: Lists that were made before, by model.
    """

    def __init__(
        self,
        catalog: Catalog,
        measured: ServingMetrics,
        lists: GatheredLists,
        demand: DemandSource,
        kept: KeptLists,
    ) -> None:
        self.catalog, self._measured = catalog, measured
        self._lists, self._demand, self._kept = lists, demand, kept
        self.masks = FilterMasks(catalog)

    def kept(self, plan: SlatePlan, who: Who) -> KeptList | None:
        """The list that was kept for such a plan; None where the model is to make one."""
        if not self._kept.most or plan.request.fresh or plan.model is None or not who:
            return None
        key = list_key(plan, who, self.catalog)
        return None if key is None else self._kept.of(plan.model).get(key)

    async def slate(
        self,
        plan: SlatePlan,
        visitor: VisitorReading,
        budget: Budget,
        who: Who = b"",
        kept: KeptList | None = None,
    ) -> MadeSlate:
        """The slate of a plan.

        Args:
            plan: The plan.
            visitor: The visitor.
            budget: The time that is left to wait for the online store.
            who: The revision of the visitor's state; empty where it says nothing of the events.
            kept: The list that `kept` gave for it.
        """
        key = None
        if kept is None and self._kept.most and plan.model is not None:
            # Read before the list is made: what is shown or hidden meanwhile is another key's.
            key = list_key(plan, who or tuple(visitor.history), self.catalog)
            if not who:
                kept = self.kept(plan, tuple(visitor.history))
        if kept is not None:
            self._measured.kept_lists.inc()
            if (made := making.kept_slate(plan, kept.listed)) is not None:
                return made
        listed = kept.listed if kept is not None else None
        made = await self._driven(making.slate(plan, visitor, self.catalog, listed), budget)
        if kept is None and key is not None and plan.model is not None and made.listed is not None:
            # A plain slate that no other step has filled is the list as it stands.
            whole = plan.is_plain and len(made.items) == len(made.listed)
            self._kept.of(plan.model)[key] = KeptList.of(
                visitor, made.items if whole else made.listed
            )
        return made

    async def ranking(self, plan: SlatePlan, visitor: VisitorReading, budget: Budget) -> MadeSlate:
        """The order of a plan's given items. Arguments as of `slate`."""
        return await self._driven(given_items.ranking(plan, visitor, self.catalog), budget)

    async def _driven(self, steps: Making, budget: Budget) -> MadeSlate:
        try:
            asked = next(steps)
            while True:
                try:
                    match asked:
                        case ListAsked(bundle, question):
                            answer: Any = await self._lists.recommend(bundle, question)
                        case DemandAsked():
                            answer = await self._demand.demand(asked, budget)
                        case MaskAsked(model, wanted):
                            answer = await self.masks.allowed(model, wanted)
                        case WorkAsked(work):
                            answer = await asyncio.to_thread(work)
                except Exception as error:
                    asked = steps.throw(error)
                else:
                    asked = steps.send(answer)
        except StopIteration as end:
            made: MadeSlate = end.value
        for stage, seconds in made.took:
            self._measured.took(stage, seconds)
        for part, failure in made.failures:
            self._measured.failed(part, failure)
        return made
