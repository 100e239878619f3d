"""Lists of demand in the online store, each read at most once in a while for all requests."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final, Protocol
from weakref import WeakKeyDictionary

from services.serving.metrics import ServingMetrics
from services.serving.request.store_reads import Budget, StoreReads, TrendingItem
from slipstream.features.decay import POPULAR_WINDOWS
from slipstream.recommender import stages
from slipstream.slates.catalogue.model import Model
from slipstream.slates.list_steps import DemandEntries
from slipstream.slates.slate_plan import Demand, DemandAsked
from slipstream.slates.slate_request import Step
from slipstream.stores.online import StoreUnavailableError

# Length of the list that is read: enough for a full slate without items that a visitor has seen.
DEPTH = 500
# Length of a window's list that is read: enough for a filter that one item in a hundred meets.
POPULAR_DEPTH: Final = 2_000
# Greatest age of a window's list, as a multiple of that of the trending list.
POPULAR_PATIENCE: Final = 10.0
# Length of the model's popularity list, which stands in for trending items.
_POPULAR: Final = 250


class Trending:
    """A cache of the trending list.

    A failure is remembered as long as a list would be, so that not every request waits for a store
    that hangs. All who need a fresh list wait for the same read, each within its own budget.

    Args:
        refresh_s: Greatest age of the list.
        window: Window of the popular list that is read instead; empty for the trending list.
        depth: Length of the list that is read.
    """

    def __init__(
        self, store: StoreReads, refresh_s: float, *, window: str = "", depth: int = DEPTH
    ) -> None:
        self._store, self._refresh_s = store, refresh_s
        self._window, self._depth = window, depth
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None
        self._failure: StoreUnavailableError | None = None
        # The list as last read, of any age; empty before the first read.
        self.last: Sequence[TrendingItem] = ()

    async def top(self, budget: Budget) -> Sequence[TrendingItem]:
        """The list, at most `refresh_s` old. Raises `StoreUnavailableError`."""
        if time.monotonic() - self._read_at > self._refresh_s:
            if self._reading is None:
                self._reading = asyncio.create_task(self._refresh())
            await self._store.wait(self._reading, budget)
        if self._failure is not None:
            raise self._failure
        return self.last

    async def _refresh(self) -> None:
        try:
            wanted = self._depth, self._store.budget(), self._window
            self.last = DemandEntries(await self._store.trending(*wanted))
            self._failure = None
        except StoreUnavailableError as error:
            self._failure = error
        finally:
            self._reading = None
        self._read_at = time.monotonic()


class DemandSource(Protocol):
    """The lists of demand, of now or of the record of a slate."""

    async def demand(self, asked: DemandAsked, budget: Budget) -> Demand:
        """The requested list; it never fails."""


class DemandLists:
    """The lists of now. Used in one event loop.

    Args:
        refresh_s: Greatest age of the trending list.
    """

    def __init__(self, store: StoreReads, measured: ServingMetrics, refresh_s: float) -> None:
        self._measured = measured
        self._trending, self._popular_items = Trending(store, refresh_s), PopularItems(measured)
        self._popular = {
            window: Trending(
                store, POPULAR_PATIENCE * refresh_s, window=window, depth=POPULAR_DEPTH
            )
            for window in POPULAR_WINDOWS
        }

    async def demand(self, asked: DemandAsked, budget: Budget) -> Demand:
        """The requested list.

        While the store is away or empty, the model's popular items stand in for trending ones, else
        the last list. For a window, the last list does.
        """
        lists = self._popular[asked.window] if asked.window else self._trending
        try:
            top = await lists.top(budget)
        except StoreUnavailableError:
            self._measured.degraded.labels(asked.step).inc()
            if asked.window:
                return Demand(lists.last, "the online store does not answer")
            top = ()
        if asked.window:
            return Demand(top, f"nothing was in demand in this {asked.window}")
        return Demand(top or self._popular_items.by(asked.model) or lists.last, "")


class PopularItems:
    """Popular items by the model: its recommendations for an empty history.

    Kept, since all who ask without the online store get the same.
    """

    def __init__(self, measured: ServingMetrics) -> None:
        self._measured = measured
        self._kept: WeakKeyDictionary[Model, Sequence[TrendingItem]] = WeakKeyDictionary()

    def by(self, model: Model | None) -> Sequence[TrendingItem]:
        """Those of a model; none without one, or where it fails."""
        if model is None:
            return ()
        popular = self._kept.get(model)
        if popular is None:
            try:
                recommended = stages.recommend(model.bundle, (), _POPULAR)
            except Exception as error:  # visitors still get what trends
                self._measured.failed(Step.MODEL, error)
                return ()
            entries = ((each.item_id, each.score) for each in recommended)
            popular = self._kept[model] = DemandEntries(entries)
        return popular
