"""Explanations of slates: the model ranks again without parts of the history, in a thread."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Final, TypeVar

from services.serving.metrics import ServingMetrics
from services.serving.request.store_reads import OverloadedError
from services.serving.state.filter_masks import FilterMasks
from slipstream.contracts.reasons import SlateReasons
from slipstream.contracts.times import now_ms
from slipstream.recommender import stages
from slipstream.slates.catalogue.borrowing import in_known_items
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.reason_texts import pinned_items
from slipstream.slates.reasons.measured_reasons import measured_reasons
from slipstream.slates.reasons.words import title
from slipstream.slates.slate_plan import MadeSlate
from slipstream.slates.slate_request import VisitorReading, why_not_model

# Time that an explanation may take, from its turn on.
LONGEST_S: Final = 0.06
# Lists that an explanation is worth.
LISTS: Final = 30

T = TypeVar("T")


class Explanations:
    """Measured reasons of slates, made one at a time in a thread of their own: each is worth dozens
    of lists, and holds room of the size of the catalogue. Used in one event loop.

    Args:
        masks: Says which items pass a filter.
        catalog: Availability and titles of items.
        longest_wait_s: Wait for its turn from which an explanation is refused.
    """

    def __init__(
        self,
        masks: FilterMasks,
        catalog: Catalog,
        measured: ServingMetrics,
        longest_wait_s: float,
    ) -> None:
        self._masks, self._catalog, self._measured = masks, catalog, measured
        self._longest_wait_s, self._asked_for = longest_wait_s, 0
        self._turn, self._thread = asyncio.Lock(), ThreadPoolExecutor(1, "reasons")

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()

    @contextmanager
    def asked_for(self) -> Iterator[None]:
        """Count a request that wants an explanation for as long as the block runs.

        Raises `OverloadedError` where it would wait too long for its turn.
        """
        if (wait_s := self._asked_for * LONGEST_S) > self._longest_wait_s:
            raise OverloadedError(wait_s, self._longest_wait_s)
        self._asked_for += 1
        try:
            yield
        finally:
            self._asked_for -= 1

    async def of(self, slate: MadeSlate, visitor: VisitorReading) -> SlateReasons | None:
        """The reasons of a slate's items; None where the model has no say, or fails."""
        plan, model = slate.plan, slate.plan.model
        history = in_known_items(visitor.history, model, self._catalog)
        if model is None or why_not_model(model, history, visitor.problem):
            return None
        try:
            wanted = plan.wanted(visitor)
            question = stages.list_question(
                model.bundle,
                history,
                plan.depth,
                exclude=plan.excluded(visitor),
                allowed=self._catalog.mask(model)
                if wanted is None
                else await self._masks.allowed(model, wanted),
                repeats=plan.repeats if history is visitor.history else True,
            )
            measure = partial(
                measured_reasons,
                model.bundle,
                history,
                question,
                [item.item_id for item in slate.items],
                now=now_ms(),
                pinned=pinned_items(slate),
                title_of=self._title,
            )

            def timed() -> SlateReasons:
                began = time.perf_counter()
                reasons = measure(deadline=time.monotonic() + LONGEST_S)
                slate.took.append(("reasons", began, time.perf_counter() - began))
                return reasons

            return await self.in_turn(timed)
        except Exception as error:  # a slate without reasons is a slate
            self._measured.failed("reasons", error)
            return None

    async def in_turn(self, work: Callable[[], T]) -> T:
        """The result of a function that the thread of explanations runs, after those that wait."""
        async with self._turn:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _title(self, item_id: str) -> str | None:
        return title(self._catalog.attributes(item_id))
