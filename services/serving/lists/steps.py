"""The steps of a shop's lists: each returns its items, and a reason where it has none."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from services.serving.answers import Step
from services.serving.catalog import Catalog
from services.serving.lists.selection import selected
from services.serving.metrics import ServingMetrics
from services.serving.steps import StepRequest, StepResult
from services.serving.store_reads import StoreReads
from services.serving.trending import Trending
from slipstream.features.demand import POPULAR_WINDOWS
from slipstream.recommender import stages
from slipstream.stores.online import StoreUnavailableError

# Length of a window's list that is read: enough for a filter that one item in a hundred meets.
POPULAR_DEPTH: Final = 2_000
# Greatest age of a window's list, as a multiple of that of the trending list.
POPULAR_PATIENCE: Final = 10.0


class ListSteps:
    """The steps by name.

    Args:
        catalog: Availability and attributes of items.
        measured: Metrics of the steps.
        store: Reads of the online store.
        refresh_s: Greatest age of the trending list.
    """

    def __init__(
        self, catalog: Catalog, measured: ServingMetrics, store: StoreReads, refresh_s: float
    ) -> None:
        self._catalog, self._measured = catalog, measured
        self._popular = {
            window: Trending(
                store, POPULAR_PATIENCE * refresh_s, window=window, depth=POPULAR_DEPTH
            )
            for window in POPULAR_WINDOWS
        }
        self.by_name: Mapping[Step, Callable[[StepRequest], Awaitable[StepResult]]] = {
            Step.POPULAR: self._from_popular,
            Step.NEW: self._from_newest,
            Step.RECENT: self._from_recent,
            Step.BOUGHT_TOGETHER: self._from_baskets,
        }

    async def _from_popular(self, request: StepRequest) -> StepResult:
        """The items with the most demand in the request's window."""
        popular = self._popular[request.window]
        try:
            top = await popular.top(request.budget)
        except StoreUnavailableError:
            self._measured.degraded.labels(Step.POPULAR).inc()
            top, reason = popular.last, "the online store does not answer"
        else:
            reason = f"nothing was in demand in this {request.window}"
        return self._result(request, top, Step.POPULAR, reason)

    async def _from_newest(self, request: StepRequest) -> StepResult:
        """The items that appeared last; scores are the times (ms)."""
        newest = self._catalog.newest()
        return self._result(request, newest, Step.NEW, "the catalogue is empty")

    async def _from_recent(self, request: StepRequest) -> StepResult:
        """The visitor's own latest items, each once; scores are the times of the visits (ms)."""
        latest: dict[str, float] = {}
        for event in reversed(request.history):
            latest.setdefault(event.item_id, float(event.timestamp))
        return self._result(request, list(latest.items()), Step.RECENT, request.no_history)

    async def _from_baskets(self, request: StepRequest) -> StepResult:
        """The items that go into one basket with the named ones, by the model's training data."""
        model = request.model
        if model is None:
            return StepResult([], "no model is loaded yet")
        found = stages.bought_together(model.bundle, request.similar_to)
        why_none = "no basket with a named item and another one is known"
        result = self._result(request, found, Step.BOUGHT_TOGETHER, why_none)
        return result._replace(version=model.version if result.items else None)

    def _result(
        self, request: StepRequest, entries: Sequence[tuple[str, float]], step: Step, why_none: str
    ) -> StepResult:
        with self._measured.stage(step):
            items = selected(self._catalog, request, entries, step)
        if items:
            return StepResult(items)
        return StepResult([], "none of these items may be shown here" if entries else why_none)
