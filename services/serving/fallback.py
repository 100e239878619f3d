"""The fallback chain: the model, then similar items, then trending ones.

Each step returns the items that it has, and a reason where it has none. Candidates, ranking and
filtering are `slipstream.recommender.stages`, the code that offline evaluation runs.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from weakref import WeakKeyDictionary

from services.serving.answers import Item, Step
from services.serving.catalog import Catalog
from services.serving.deadlines import Budget
from services.serving.filters.filter_masks import Filter, FilterMasks
from services.serving.filters.masks import ItemMask, Items, mask
from services.serving.gathered_lists import GatheredLists
from services.serving.kept_lists import KeptLists, ListKey
from services.serving.lists.selection import selected
from services.serving.lists.steps import ListSteps
from services.serving.metrics import ServingMetrics
from services.serving.model_holder import Model
from services.serving.overlay.merging import LENDERS, in_known_items, with_new_items
from services.serving.steps import OF_STORE, StepRequest, StepResult, why_not_model
from services.serving.store_reads import StoreReads, TrendingItem
from services.serving.trending import Trending
from slipstream.models.base import Mask
from slipstream.recommender import stages
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.sound import answer_without_failed_parts
from slipstream.stores.online import StoreUnavailableError

# The number of latest items of a history whose neighbours the similar step looks up.
_SEEDS = 5
# Neighbours that are ordered for a visitor.
_REORDERED = 50
# Length of the model's popularity list, which stands in for trending items.
_POPULAR = 250
# Why a step that failed has no items.
_FAILED = {
    Step.MODEL: "the model failed",
    Step.SIMILAR: "the look-up of similar items failed",
    Step.TRENDING: "the trending list failed",
}


class FallbackChain:
    """The steps by name. A step never fails: it logs, counts, and leaves the slate to the next.

    Args:
        catalog: Availability and attributes of items.
        measured: Metrics of the steps.
        store: Reads of the online store.
        lists: Calls of the model's kernels, which requests share.
        kept: Lists that were made before, by model.
        refresh_s: Greatest age of the trending list.
    """

    def __init__(
        self,
        catalog: Catalog,
        measured: ServingMetrics,
        store: StoreReads,
        lists: GatheredLists,
        kept: KeptLists,
        refresh_s: float,
    ) -> None:
        self._catalog, self._measured = catalog, measured
        self._lists, self._kept = lists, kept
        self._filters = FilterMasks(catalog)
        self._trending = Trending(store, refresh_s)
        self._popular: WeakKeyDictionary[Model, Sequence[TrendingItem]] = WeakKeyDictionary()
        self._steps: dict[Step, Callable[[StepRequest], Awaitable[StepResult]]] = {
            Step.MODEL: self._from_model,
            Step.SIMILAR: self._from_similar,
            Step.TRENDING: self._from_trending,
            **ListSteps(catalog, measured, store, refresh_s).by_name,
        }

    async def run(self, step: Step, request: StepRequest) -> StepResult:
        """The items of one step, and the reason where it has none."""
        try:
            result = await self._steps[step](request)
        except Exception as error:  # whatever the fault, visitors still get a slate
            self._measured.failed(step, error)
            reason = _FAILED.get(step, f"the list of {step} items failed")
            result = StepResult([], reason, failed=step is Step.MODEL)
        if request.given is not None and step in OF_STORE:
            request.given.append((step, result.items))
        return result

    def unknown(self, wanted: Filter) -> str:
        """A remark on attributes that a filter names and no item has; empty where all are known."""
        names = ", ".join(self._filters.unknown(wanted))
        return f"no item has an attribute {names}" if names else ""

    def unproven(self, request: StepRequest, n: int) -> list[Item]:
        """The `n` newest items that the model does not know, for places that explore."""
        known = request.model.bundle.index if request.model is not None else {}
        entries = [(item_id, 0.0) for item_id, _ in self._catalog.newest() if item_id not in known]
        return selected(self._catalog, replace(request, n=n), entries, Step.NEW)

    async def rank(self, request: StepRequest, item_ids: Sequence[str]) -> tuple[Step, StepResult]:
        """Those of the given items that a step knows, best first, and the step.

        The model orders them for a history that it knows, else demand does.
        """
        model = request.model
        history = in_known_items(request.history, model, self._catalog)
        try:
            reason = why_not_model(model, history, request.no_history)
            if not reason and model is not None:
                with self._measured.stage(Step.MODEL):
                    result = self._ask(
                        model, history, lambda bundle: stages.rank_items(bundle, history, item_ids)
                    )
                return (Step.MODEL if result.items else Step.NONE), result
        except Exception as error:
            self._measured.failed(Step.MODEL, error)
            reason = _FAILED[Step.MODEL]
        with self._measured.stage(Step.TRENDING):
            demand = dict(await self._top_trending(request.model, request.budget))
            known = sorted(filter(demand.__contains__, item_ids), key=lambda each: -demand[each])
        items = [Item(item_id, demand[item_id], Step.TRENDING) for item_id in known]
        return (Step.TRENDING if items else Step.NONE), StepResult(items, reason)

    async def _top_trending(self, model: Model | None, budget: Budget) -> Sequence[TrendingItem]:
        """The items in most demand, from the online store.

        While the store is away or empty, the model's popular items stand in, else the last list.
        """
        try:
            top = await self._trending.top(budget)
        except StoreUnavailableError:
            self._measured.degraded.labels("trending").inc()
            top = ()
        return top or (self._popular_by(model) if model is not None else ()) or self._trending.last

    async def _from_model(self, request: StepRequest) -> StepResult:
        model = request.model
        history = in_known_items(request.history, model, self._catalog)
        reason = why_not_model(model, history, request.no_history)
        if reason or model is None:
            return StepResult([], reason)
        with self._measured.stage(Step.MODEL):
            space = self._catalog.space(model)
            kept, key = self._kept.of(model), None
            # A mask may be a second old, and a list that is kept would be so for longer.
            if request.wanted is None:
                visible = self._catalog.visibility() + space.revision
                known = filter(space.__contains__, request.exclude)
                key = ListKey(request.history, known, request.n, request.repeats, visible)
                if not request.fresh and (list_before := kept.get(key)) is not None:
                    self._measured.kept_lists.inc()
                    return _result(model, list_before)
            allowed = await self.allowed(model, request)
            asked = partial(
                stages.list_question,
                history=history,
                n=max(request.n, LENDERS) if space.new_items else request.n,
                exclude=request.exclude,
                allowed=allowed,
                # Items of the history are excluded already, and what stands in for one is none.
                repeats=request.repeats if history is request.history else True,
            )
            with_new = partial(with_new_items, request, history, model, space, allowed)
            try:
                recommended = await self._lists.recommend(model.bundle, asked(model.bundle))
                lenders = recommended
                if space.new_items and request.wanted and len(recommended) < request.n:
                    # New items pass that are like known ones that do not.
                    anything = asked(model.bundle, allowed=self._catalog.mask(model))
                    lenders = await self._lists.recommend(model.bundle, anything)
                recommended = with_new(recommended, lenders)
                if key:
                    kept[key] = recommended
            except Exception:  # perhaps another's question is at fault: now each is asked alone
                return self._ask(
                    model, history, lambda one: with_new(stages.answers(one, [asked(one)])[0])
                )
            return _result(model, recommended)

    async def _from_similar(self, request: StepRequest) -> StepResult:
        """Neighbours of the named items, else of the latest items of the history.

        The model's neighbours come first, then items with attributes in common.
        """
        latest = list(dict.fromkeys(event.item_id for event in reversed(request.history)))[:_SEEDS]
        seeds = request.similar_to or latest
        with self._measured.stage(Step.SIMILAR):
            items, reason, version, failed = await self._similar_by_model(request, seeds)
            taken = request.exclude | {item.item_id for item in items}
            try:
                alike = self._catalog.look_alikes(
                    seeds, request.n - len(items), taken, self._passing(request)
                )
            except Exception as error:
                self._measured.failed("catalog", error)
                alike, reason = [], "; ".join(filter(None, (reason, "the catalogue failed")))
            filler = [
                Item(item_id, 0.0 if items else score, "attributes") for item_id, score in alike
            ]
        if not items and not filler and seeds:
            reason = "; ".join(filter(None, (reason, "nothing similar is known")))
        return StepResult([*items, *filler], reason, version, failed)

    async def _similar_by_model(self, request: StepRequest, seeds: Sequence[str]) -> StepResult:
        model = request.model
        if model is None or not seeds:
            return StepResult([])
        # For a visitor who is known, more neighbours of named items are looked up, and ordered.
        is_personal = bool(request.similar_to) and not why_not_model(
            model, request.history, request.no_history
        )
        n = max(request.n, _REORDERED) if is_personal else request.n
        depth = n + len(request.exclude)
        allowed = await self.allowed(model, request)

        def neighbours(bundle: Bundle) -> list[stages.Recommendation]:
            best: dict[str, stages.Recommendation] = {}
            for seed in seeds:
                for near in stages.similar_items(bundle, seed, depth, allowed=allowed):
                    known = best.get(near.item_id)
                    if near.item_id not in request.exclude and (
                        known is None or known.score < near.score
                    ):
                        best[near.item_id] = near
            found = sorted(best.values(), key=lambda item: -item.score)[:n]
            if is_personal:
                found = stages.rank_items(bundle, request.history, [one.item_id for one in found])
            return found[: request.n]

        try:
            return self._ask(model, [stages.Event(seed) for seed in seeds], neighbours)
        except Exception as error:
            self._measured.failed(Step.MODEL, error)
            return StepResult([], _FAILED[Step.MODEL], failed=True)

    async def _from_trending(self, request: StepRequest) -> StepResult:
        with self._measured.stage(Step.TRENDING):
            top = await self._top_trending(request.model, request.budget)
            items = selected(self._catalog, request, top, Step.TRENDING)
        empty = "nothing that trends passes" if request.wanted else "nothing is trending yet"
        return StepResult(items, "" if items else empty)

    async def allowed(self, model: Model, request: StepRequest) -> Mask:
        """Whether each item of the model's space may be in the slate."""
        if request.wanted is None:
            return self._catalog.mask(model)
        return await self._filters.allowed(model, request.wanted)

    async def may_have(self, request: StepRequest) -> bool:
        """Whether an item that catalogue and model know meets the filter and is not excluded."""
        model, wanted, taken = request.model, request.wanted, request.exclude
        try:
            return not (model and wanted) or await self._filters.leaves_any(model, wanted, taken)
        except Exception as error:  # the steps would fail likewise
            self._measured.failed("catalog", error)
            return False

    def _passing(self, request: StepRequest) -> Callable[[Items], ItemMask] | None:
        wanted = request.wanted
        return None if wanted is None else partial(mask, wanted.condition, own=wanted.own)

    def _ask(
        self,
        model: Model,
        history: Sequence[stages.AnyEvent],
        answer: Callable[[Bundle], Sequence[stages.Recommendation]],
    ) -> StepResult:
        """The answer of the model's sound parts, given for a history. Raises where none is left."""
        recommended, failed = answer_without_failed_parts(model.bundle, history, answer)
        for name, error in failed.items():
            self._measured.failed(name, error)
        reason = f"{' and '.join(failed)} failed and had no say" if failed else ""
        return _result(model, recommended, reason)

    def _popular_by(self, model: Model) -> Sequence[TrendingItem]:
        """Popular items by the bundle: its recommendations for an empty history.

        Kept, since all who ask without the online store get the same.
        """
        popular = self._popular.get(model)
        if popular is None:
            try:
                recommended, _ = answer_without_failed_parts(
                    model.bundle, (), lambda bundle: stages.recommend(bundle, (), _POPULAR)
                )
            except Exception as error:  # visitors still get what trends
                self._measured.failed(Step.MODEL, error)
                return ()
            popular = self._popular[model] = [(each.item_id, each.score) for each in recommended]
        return popular


def _result(
    model: Model, recommended: Sequence[stages.Recommendation], reason: str = ""
) -> StepResult:
    # Only parts that fail are a reason.
    return StepResult(recommended, reason, model.version if recommended else None, bool(reason))
