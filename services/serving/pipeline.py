"""The way of a recommendation: features → candidates → ranking → filtering → response, and what
answers when a part is missing.

Knows no HTTP. Candidates, ranking and filtering are `slipstream.recommender.stages`, the code that
offline evaluation runs.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from services.serving.catalog import Catalog
from services.serving.metrics import ServingMetrics
from services.serving.model_holder import Model
from services.serving.trending import Trending, TrendingItem
from slipstream.chassis.logging import get_logger
from slipstream.contracts.events import Slate, SlateItem
from slipstream.contracts.times import now_ms
from slipstream.features.views import RECOMMENDER, VISITOR
from slipstream.features.visitor import SequenceEvent, VisitorState, visitor_features
from slipstream.recommender import stages
from slipstream.recommender.bundle import Bundle
from slipstream.stores.online import StoreUnavailableError

log = get_logger(__name__)

# What one request may ask for.
MOST_ITEMS = 100
# So many of the latest items of a history speak for what is similar to it.
_SEEDS = 5
# The features of a visitor that a slate is written down with.
_WRITTEN_DOWN = RECOMMENDER.of(VISITOR)
# So long is the list of what the model found popular, which stands in for what is trending.
_POPULAR = 250


class Step(StrEnum):
    """What can answer, in this order. `none` is the answer of nobody."""

    MODEL = "model"
    SIMILAR = "similar"
    TRENDING = "trending"
    NONE = "none"


class OnlineFeatures(Protocol):
    """What is read from the online store. Both raise `StoreUnavailableError`."""

    async def visitor(self, user_id: str) -> VisitorState | None: ...

    async def trending(self, n: int) -> Sequence[TrendingItem]: ...


class Item(NamedTuple):
    """A recommended item. Scores compare within one answer; an item filled in from a later step
    than the first has 0.
    """

    item_id: str
    score: float
    source: str


@dataclass(frozen=True, slots=True)
class RecommendationRequest:
    """What is asked for. `history` (oldest first) stands in for what the online store knows of
    `user_id`.

    `similar_to` asks for what goes with these items, whoever asks. `repeats` says whether items of
    the history may come again; None leaves it to the model. `steps` may answer, in this order.
    """

    n: int = 10
    user_id: str = ""
    history: Sequence[SequenceEvent] | None = None
    similar_to: Sequence[str] = ()
    exclude: frozenset[str] = frozenset()
    repeats: bool | None = None
    placement: str = ""
    steps: Sequence[Step] = (Step.MODEL, Step.SIMILAR, Step.TRENDING)


@dataclass(frozen=True, slots=True)
class Answer:
    """A slate. `answered_by` is the step that gave its first items; `reason`: why no earlier step
    did, and who filled up.
    """

    recommendation_id: str
    user_id: str
    items: Sequence[Item]
    answered_by: Step
    reason: str
    model_version: str | None
    history_length: int


@dataclass(frozen=True, slots=True)
class _Context:
    """What the steps work with. `n` items are wanted, none of `exclude`. Without a history,
    `no_history` says why.
    """

    n: int
    model: Model | None
    history: Sequence[SequenceEvent]
    no_history: str
    similar_to: Sequence[str]
    exclude: frozenset[str] | set[str]
    repeats: bool | None


@dataclass(slots=True)
class _Visitor:
    history: Sequence[SequenceEvent] = ()
    features: dict[str, float] = field(default_factory=dict)
    problem: str = ""


class Pipeline:
    """Answers requests. Never fails for want of a model, of a visitor, of the online store or of
    the broker.

    `current_model` gives the model in service, `record` takes every slate and must not wait.
    `store_timeout_s` bounds what a request waits for the online store.
    """

    def __init__(
        self,
        online: OnlineFeatures,
        current_model: Callable[[], Model | None],
        catalog: Catalog,
        measured: ServingMetrics,
        record: Callable[[Slate], None],
        *,
        store_timeout_s: float = 0.1,
        trending_refresh_s: float = 1.0,
    ) -> None:
        self._online, self._current_model, self._catalog = online, current_model, catalog
        self._measured, self._record, self._timeout_s = measured, record, store_timeout_s
        self._trending = Trending(self._read_trending, trending_refresh_s)
        self._steps: dict[Step, Callable[[_Context], Awaitable[tuple[list[Item], str]]]] = {
            Step.MODEL: self._from_model,
            Step.SIMILAR: self._from_similar,
            Step.TRENDING: self._from_trending,
        }

    async def recommend(self, request: RecommendationRequest) -> Answer:
        """The best `n` items that there are for this request."""
        started = time.perf_counter()
        # Taken once: a model that is swapped in while we wait can't mix with the one that we
        # started with.
        model = self._current_model()

        # Features: what the visitor did lately, from the online store in one round trip, or as the
        # caller tells it.
        visitor = await self._visitor(request)

        # What must not be shown. (The catalogue's say, about all items, is applied inside each
        # step.)
        exclude = set(request.exclude)
        if not _may_repeat(request.repeats, model):
            exclude.update(event.item_id for event in visitor.history)
        exclude.update(request.similar_to)

        # Candidates, ranking, filtering: each step of the chain fills what those before it left
        # open.
        items: list[Item] = []
        answered_by, reasons = Step.NONE, []
        for step in request.steps:
            wanted = request.n - len(items)
            context = _Context(
                wanted,
                model,
                visitor.history,
                visitor.problem,
                request.similar_to,
                exclude,
                request.repeats,
            )
            found, reason = await self._steps[step](context)
            if reason:
                reasons.append(reason)
            if found and not items:
                answered_by, items = step, found
            elif found:
                reasons.append(
                    f"{answered_by} had {len(items)} of {request.n} items; {len(found)} more are {step}"
                )
                items += [item._replace(score=0.0) for item in found]
            if len(items) >= request.n:
                break
            exclude.update(item.item_id for item in found)

        # Response: under an id that later interactions name, and on the record with the features
        # that it was made from.
        answer = Answer(
            uuid.uuid4().hex,
            request.user_id,
            items,
            answered_by,
            "; ".join(reasons),
            model.version if model is not None else None,
            len(visitor.history),
        )
        self._publish(answer, visitor.features, request.placement, started)
        return answer

    async def rank(self, user_id: str, item_ids: Sequence[str], placement: str = "") -> Answer:
        """All the given items, each once, best first: by the model for a visitor that it can tell
        something about, else by what is trending. Items that neither knows stay in the given order
        at the end, with score 0.
        """
        started = time.perf_counter()
        model = self._current_model()
        visitor = await self._visitor(RecommendationRequest(user_id=user_id))
        given = list(dict.fromkeys(item_ids))
        answered_by, reason = Step.MODEL, _why_not_model(model, visitor.history, visitor.problem)
        with self._measured.stage("model"):
            if not reason and model is not None:
                ranked = [
                    Item(*one[:3])
                    for one in stages.rank_items(model.bundle, visitor.history, given)
                ]
            else:
                answered_by, top = Step.TRENDING, dict(await self._top_trending(model))
                found = sorted((one for one in given if one in top), key=lambda one: -top[one])
                ranked = [Item(one, top[one], Step.TRENDING) for one in found]
        if not ranked:
            answered_by = Step.NONE
            reason = "; ".join(filter(None, (reason, "none of the items is known")))
        known = {item.item_id for item in ranked}
        ranked += [Item(item_id, 0.0, Step.NONE) for item_id in given if item_id not in known]
        version = model.version if model is not None else None
        answer = Answer(
            uuid.uuid4().hex, user_id, ranked, answered_by, reason, version, len(visitor.history)
        )
        self._publish(answer, visitor.features, placement, started)
        return answer

    async def _visitor(self, request: RecommendationRequest) -> _Visitor:
        if request.history is not None:
            return _Visitor(
                request.history, problem="" if request.history else "the history is empty"
            )
        if not request.user_id:
            return _Visitor(problem="no visitor is named")
        with self._measured.stage("features"):
            try:
                async with asyncio.timeout(self._timeout_s):
                    state = await self._online.visitor(request.user_id)
            except (StoreUnavailableError, TimeoutError):
                self._measured.degraded.labels("online_store").inc()
                return _Visitor(
                    problem="the online store does not answer, so the visitor's history is not known"
                )
            features = visitor_features(state, now_ms(), _WRITTEN_DOWN)
        if state is None:
            return _Visitor(features=features, problem="the visitor is not known")
        return _Visitor(
            state.sequence,
            features,
            "" if state.sequence else "the visitor has done nothing with items yet",
        )

    async def _from_model(self, context: _Context) -> tuple[list[Item], str]:
        reason = _why_not_model(context.model, context.history, context.no_history)
        if reason or context.model is None:
            return [], reason
        with self._measured.stage("model"):
            try:
                found = stages.recommend(
                    context.model.bundle,
                    context.history,
                    context.n,
                    exclude=context.exclude,
                    allowed=self._catalog.mask(context.model),
                    repeats=context.repeats,
                )
            except (
                Exception
            ) as error:  # whatever is wrong with a model, visitors still get something
                log.error("the model failed", version=context.model.version, exc_info=error)
                self._measured.degraded.labels("model").inc()
                return [], "the model failed"
        return [Item(one.item_id, one.score, one.source) for one in found], ""

    async def _from_similar(self, context: _Context) -> tuple[list[Item], str]:
        """What goes with the named items, or else with the latest of the history: as the model has
        it for those that it knows, then by what the catalogue says of them.
        """
        latest = list(dict.fromkeys(event.item_id for event in reversed(context.history)))[:_SEEDS]
        seeds = context.similar_to or latest
        with self._measured.stage("similar"):
            found = self._similar_by_model(context, seeds)
            taken = context.exclude | {item.item_id for item in found}
            alike = self._catalog.look_alikes(seeds, context.n - len(found), taken)
            filler = [
                Item(item_id, 0.0 if found else score, "attributes") for item_id, score in alike
            ]
        if not found and not filler:
            return [], "nothing similar is known" if seeds else ""
        return found + filler, ""

    def _similar_by_model(self, context: _Context, seeds: Sequence[str]) -> list[Item]:
        if context.model is None:
            return []
        bundle, mask = context.model.bundle, self._catalog.mask(context.model)
        best: dict[str, Item] = {}
        for seed in seeds:
            for one in stages.similar_items(
                bundle, seed, context.n + len(context.exclude), allowed=mask
            ):
                known = best.get(one.item_id)
                if one.item_id not in context.exclude and (
                    known is None or known.score < one.score
                ):
                    best[one.item_id] = Item(one.item_id, one.score, one.source)
        return sorted(best.values(), key=lambda item: -item.score)[: context.n]

    async def _from_trending(self, context: _Context) -> tuple[list[Item], str]:
        with self._measured.stage("trending"):
            top = await self._top_trending(context.model)
            shown = (
                pair
                for pair in top
                if pair[0] not in context.exclude and self._catalog.shown(pair[0])
            )
            found = [
                Item(item_id, score, Step.TRENDING)
                for (item_id, score), _ in zip(shown, range(context.n), strict=False)
            ]
        return found, "" if found else "nothing is trending yet"

    async def _top_trending(self, model: Model | None) -> Sequence[TrendingItem]:
        """Of the online store; while it is away or empty, what the model found popular, or what was
        trending when last heard.
        """
        try:
            top = await self._trending.top()
        except StoreUnavailableError:
            self._measured.degraded.labels("trending").inc()
            top = ()
        return top or (_popular(model.bundle) if model is not None else ()) or self._trending.last

    async def _read_trending(self, n: int) -> Sequence[TrendingItem]:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._online.trending(n)
        except TimeoutError as error:
            raise StoreUnavailableError("no answer in time") from error

    def _publish(
        self, answer: Answer, features: dict[str, float], placement: str, started: float
    ) -> None:
        with self._measured.stage("response"):
            self._measured.answered(answer.answered_by)
            self._record(
                Slate(
                    recommendation_id=answer.recommendation_id,
                    user_id=answer.user_id or f"anonymous:{answer.recommendation_id}",
                    timestamp=now_ms(),
                    items=[
                        SlateItem(item_id=one.item_id, score=one.score, source=one.source)
                        for one in answer.items
                    ],
                    answered_by=answer.answered_by,
                    model_version=answer.model_version,
                    placement=placement,
                    features=features,
                    latency_ms=round((time.perf_counter() - started) * 1000, 3),
                )
            )


def _why_not_model(model: Model | None, history: Sequence[SequenceEvent], no_history: str) -> str:
    """Why the model can't answer for this history; empty when it can."""
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


def _may_repeat(repeats: bool | None, model: Model | None) -> bool:
    if repeats is None:
        return model is not None and model.bundle.repeats
    return repeats


def _popular(bundle: Bundle) -> Sequence[TrendingItem]:
    """What is popular according to the bundle: what it recommends to somebody with no history."""
    return [(one.item_id, one.score) for one in stages.recommend(bundle, (), _POPULAR)]


def warm_up(model: Model, catalog: Catalog) -> None:
    """Let a model answer once before anybody waits for it, so that its files are in memory and its
    look-ups are built.

    Raises what the model raises when it can't answer.
    """
    catalog.mask(model)
    some = model.bundle.item_ids[:: max(1, len(model.bundle.item_ids) // 50)][:50]
    if not stages.recommend(
        model.bundle, [stages.Event(item_id) for item_id in some], 10, repeats=True
    ):
        raise ValueError("the model has nothing to recommend")
    for item_id in some[:5]:
        stages.similar_items(model.bundle, item_id, 10)
