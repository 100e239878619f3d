"""The fallback chain: the model, then similar items, then trending ones.

Each step returns the items that it has, and a reason where it has none. Candidates, ranking and
filtering are `slipstream.recommender.stages`, the code that offline evaluation runs.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from services.serving.answers import Item, Step
from services.serving.catalog import Catalog
from services.serving.metrics import ServingMetrics
from services.serving.model_holder import Model
from services.serving.trending import Trending, TrendingItem
from slipstream.chassis.logging import get_logger
from slipstream.features.visitor import SequenceEvent
from slipstream.recommender import stages
from slipstream.recommender.bundle import Bundle
from slipstream.stores.online import StoreUnavailableError

log = get_logger(__name__)

# The number of latest items of a history whose neighbours the similar step looks up.
_SEEDS = 5
# Length of the model's popularity list, which stands in for trending items.
_POPULAR = 250

ReadTrending = Callable[[int], Awaitable[Sequence[TrendingItem]]]


@dataclass(frozen=True, slots=True)
class StepRequest:
    """The input of a step: `n` items are wanted, none of `exclude`.

    Without a history, `no_history` says why.
    """

    n: int
    model: Model | None
    history: Sequence[SequenceEvent]
    no_history: str
    similar_to: Sequence[str]
    exclude: frozenset[str] | set[str]
    repeats: bool | None


StepResult = tuple[list[Item], str]


class FallbackChain:
    """The steps by name. A step never fails: it logs, counts, and leaves the slate to the next.

    Args:
        catalog: Availability and attributes of items.
        measured: Metrics of the steps.
        read_trending: Reads the n items in most demand from the online store.
        timeout_s: Longest wait for that read.
        refresh_s: Greatest age of the trending list.
    """

    def __init__(
        self,
        catalog: Catalog,
        measured: ServingMetrics,
        read_trending: ReadTrending,
        *,
        timeout_s: float,
        refresh_s: float,
    ) -> None:
        self._catalog, self._measured = catalog, measured
        self._read_store, self._timeout_s = read_trending, timeout_s
        self._trending = Trending(self._read_trending, refresh_s)
        self._steps: dict[Step, Callable[[StepRequest], Awaitable[StepResult]]] = {
            Step.MODEL: self._from_model,
            Step.SIMILAR: self._from_similar,
            Step.TRENDING: self._from_trending,
        }

    async def run(self, step: Step, request: StepRequest) -> StepResult:
        """The items of one step, and the reason where it has none."""
        return await self._steps[step](request)

    async def top_trending(self, model: Model | None) -> Sequence[TrendingItem]:
        """The items in most demand, from the online store.

        While the store is away or empty, the model's popular items stand in, else the last list.
        """
        try:
            top = await self._trending.top()
        except StoreUnavailableError:
            self._measured.degraded.labels("trending").inc()
            top = ()
        return top or (_popular(model.bundle) if model is not None else ()) or self._trending.last

    async def _from_model(self, request: StepRequest) -> StepResult:
        reason = why_not_model(request.model, request.history, request.no_history)
        if reason or request.model is None:
            return [], reason
        with self._measured.stage("model"):
            try:
                recommended = stages.recommend(
                    request.model.bundle,
                    request.history,
                    request.n,
                    exclude=request.exclude,
                    allowed=self._catalog.mask(request.model),
                    repeats=request.repeats,
                )
            except Exception as error:  # whatever the fault, visitors still get a slate
                log.error("the model failed", version=request.model.version, exc_info=error)
                self._measured.degraded.labels("model").inc()
                return [], "the model failed"
        return [Item(each.item_id, each.score, each.source) for each in recommended], ""

    async def _from_similar(self, request: StepRequest) -> StepResult:
        """Neighbours of the named items, else of the latest items of the history.

        The model's neighbours come first, then items with attributes in common.
        """
        latest = list(dict.fromkeys(event.item_id for event in reversed(request.history)))[:_SEEDS]
        seeds = request.similar_to or latest
        with self._measured.stage("similar"):
            items = self._similar_by_model(request, seeds)
            taken = request.exclude | {item.item_id for item in items}
            alike = self._catalog.look_alikes(seeds, request.n - len(items), taken)
            filler = [
                Item(item_id, 0.0 if items else score, "attributes") for item_id, score in alike
            ]
        if not items and not filler:
            return [], "nothing similar is known" if seeds else ""
        return items + filler, ""

    def _similar_by_model(self, request: StepRequest, seeds: Sequence[str]) -> list[Item]:
        if request.model is None:
            return []
        bundle, mask = request.model.bundle, self._catalog.mask(request.model)
        depth = request.n + len(request.exclude)
        best: dict[str, Item] = {}
        for seed in seeds:
            for near in stages.similar_items(bundle, seed, depth, allowed=mask):
                if near.item_id in request.exclude:
                    continue
                known = best.get(near.item_id)
                if known is None or known.score < near.score:
                    best[near.item_id] = Item(near.item_id, near.score, near.source)
        return sorted(best.values(), key=lambda item: -item.score)[: request.n]

    async def _from_trending(self, request: StepRequest) -> StepResult:
        with self._measured.stage("trending"):
            top = await self.top_trending(request.model)
            allowed = (
                (item_id, score)
                for item_id, score in top
                if item_id not in request.exclude and self._catalog.shown(item_id)
            )
            items = [
                Item(item_id, score, Step.TRENDING)
                for (item_id, score), _ in zip(allowed, range(request.n), strict=False)
            ]
        return items, "" if items else "nothing is trending yet"

    async def _read_trending(self, n: int) -> Sequence[TrendingItem]:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._read_store(n)
        except TimeoutError as error:
            raise StoreUnavailableError("no answer in time") from error


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


def _popular(bundle: Bundle) -> Sequence[TrendingItem]:
    """Popular items by the bundle: its recommendations for an empty history."""
    return [(each.item_id, each.score) for each in stages.recommend(bundle, (), _POPULAR)]
