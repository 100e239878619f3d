"""The way of a recommendation: features → candidates → ranking → filtering → response.

Knows no HTTP. `services.serving.fallback` holds the steps that can answer.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from services.serving.answers import Answer, Item, RecommendationRequest, Step
from services.serving.catalog import Catalog
from services.serving.deadlines import Budget
from services.serving.fallback import FallbackChain
from services.serving.filters.filter_masks import Filter
from services.serving.gathered_lists import GatheredLists
from services.serving.kept_lists import KeptLists
from services.serving.metrics import ServingMetrics
from services.serving.model_holder import Model
from services.serving.steps import StepRequest
from services.serving.store_reads import OnlineFeatures, StoreReads
from slipstream.contracts.events import Slate
from slipstream.contracts.times import now_ms
from slipstream.contracts.vocabulary import PURCHASE
from slipstream.features.views import RECOMMENDER, VISITOR
from slipstream.features.visitor import SequenceEvent, visitor_features
from slipstream.filters.conditions import Own
from slipstream.recommender import stages
from slipstream.stores.online import StoreUnavailableError

# The features of a visitor that a slate is recorded with.
_RECORDED = RECOMMENDER.of(VISITOR)


@dataclass(slots=True)
class VisitorReading:
    """A visitor's history and features. `problem` says why there is no history."""

    history: Sequence[SequenceEvent] = ()
    features: dict[str, float] = field(default_factory=dict)
    problem: str = ""


class Turnstile:
    """A gate that lets one task on in each turn of the event loop, in the order of arrival."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def passed(self) -> None:
        async with self._lock:
            await asyncio.sleep(0)


class Pipeline:
    """The answering of requests.

    It answers also without a model, a known visitor, the online store or the broker.

    Args:
        online: Reads of the online store.
        current_model: Returns the model in service.
        catalog: Availability and attributes of items.
        measured: Metrics.
        record: Takes every slate; must not wait.
        store_timeout_s: Longest wait of a request for the online store, in all its reads. What the
            event loop is late does not count.
        trending_refresh_s: Greatest age of the trending list.
        kept_lists: Most lists that are kept for visitors who do nothing meanwhile.
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
        kept_lists: int = 0,
    ) -> None:
        self._current_model, self._measured, self._record = current_model, measured, record
        self._store = StoreReads(online, measured, store_timeout_s)
        self._lists = GatheredLists()
        self.kept_lists = KeptLists(kept_lists)
        self._chain = FallbackChain(
            catalog, measured, self._store, self._lists, self.kept_lists, trending_refresh_s
        )

    def close(self) -> None:
        """End the thread of the model's kernels."""
        self._lists.close()

    async def recommend_each(self, requests: Sequence[RecommendationRequest]) -> list[Answer]:
        """The best items for each request, in the order asked.

        All visitors are read at once. Then the event loop runs between two answers, so that many
        visitors in one request keep nobody waiting for all of them.
        """
        turnstile = Turnstile()
        return await asyncio.gather(*(self.recommend(each, turnstile) for each in requests))

    async def recommend(
        self, request: RecommendationRequest, turnstile: Turnstile | None = None
    ) -> Answer:
        """The best `n` items for this request. `turnstile` is passed once the visitor is read."""
        started = time.perf_counter()
        # Read once: a model that is swapped in during a wait must not mix with this one.
        model = self._current_model()
        budget = self._store.budget()

        # Features: the visitor's latest events, in one round trip to the online store.
        visitor = await self._visitor(request, budget)
        if turnstile is not None:
            await turnstile.passed()

        # Exclusions. Each step applies the catalogue's availability itself.
        exclude = set(request.exclude)
        if not _may_repeat(request.repeats, model):
            exclude.update(event.item_id for event in visitor.history)
        exclude.update(request.similar_to)

        wanted = _filter(request, visitor.history)

        # Candidates, ranking, filtering: each step fills what the steps before it left open.
        items: list[Item] = []
        answered_by, version = Step.NONE, None
        reasons = list(filter(None, [self._chain.unknown(wanted)])) if wanted else []
        for step in request.steps:
            added, reason, by_version = await self._chain.run(
                step,
                StepRequest(
                    request.n - len(items),
                    model,
                    visitor.history,
                    visitor.problem,
                    request.similar_to,
                    exclude,
                    request.repeats,
                    budget,
                    request.fresh,
                    wanted,
                ),
            )
            if reason:
                reasons.append(reason)
            if added and not items:
                answered_by, items, version = step, added, by_version
            elif added:
                present = f"{answered_by} had {len(items)} of {request.n} items"
                reasons.append(f"{present}; {len(added)} more are {step}")
                items += [Item(item.item_id, 0.0, item.source) for item in added]
            if len(items) >= request.n:
                break
            exclude.update(item.item_id for item in added)

        # Response: under an id that later interactions name.
        answer = Answer(
            uuid.uuid4().hex,
            request.user_id,
            items,
            answered_by,
            "; ".join(reasons),
            version,
            len(visitor.history),
        )
        self._publish(answer, visitor.features, request.placement, started)
        return answer

    async def rank(self, user_id: str, item_ids: Sequence[str], placement: str = "") -> Answer:
        """The given items, each once, best first.

        The model ranks them for a visitor whose history it knows, else demand does. Items that
        neither knows stay in the given order at the end, with score 0.
        """
        started = time.perf_counter()
        model = self._current_model()
        budget = self._store.budget()
        visitor = await self._visitor(RecommendationRequest(user_id=user_id), budget)
        given = list(dict.fromkeys(item_ids))
        answered_by, (ranked, reason, version) = await self._chain.rank(
            StepRequest(
                len(given), model, visitor.history, visitor.problem, (), frozenset(), None, budget
            ),
            given,
        )
        if not ranked:
            reason = "; ".join(filter(None, (reason, "none of the items is known")))
        placed = {item.item_id for item in ranked}
        ranked += [Item(item_id, 0.0, Step.NONE) for item_id in given if item_id not in placed]
        answer = Answer(
            uuid.uuid4().hex, user_id, ranked, answered_by, reason, version, len(visitor.history)
        )
        self._publish(answer, visitor.features, placement, started)
        return answer

    async def _visitor(self, request: RecommendationRequest, budget: Budget) -> VisitorReading:
        if request.history is not None:
            problem = "" if request.history else "the history is empty"
            return VisitorReading(request.history, problem=problem)
        if not request.user_id:
            return VisitorReading(problem="no visitor is named")
        with self._measured.stage("features"):
            try:
                state = await self._store.visitor(request.user_id, budget)
            except StoreUnavailableError:
                self._measured.degraded.labels("online_store").inc()
                return VisitorReading(
                    problem="the online store does not answer, "
                    "so the visitor's history is not known"
                )
            try:
                features = visitor_features(state, now_ms(), _RECORDED)
            except Exception as error:  # they are recorded, and no answer needs them
                self._measured.failed("features", error)
                features = {}
        if state is None:
            return VisitorReading(features=features, problem="the visitor is not known")
        problem = "" if state.sequence else "the visitor has done nothing with items yet"
        return VisitorReading(state.sequence, features, problem)

    def _publish(
        self, answer: Answer, features: dict[str, float], placement: str, started: float
    ) -> None:
        with self._measured.stage("response"):
            self._measured.answered(answer.answered_by)
            slate = Slate.of_checked(
                recommendation_id=answer.recommendation_id,
                user_id=answer.user_id or f"anonymous:{answer.recommendation_id}",
                timestamp=now_ms(),
                items=answer.items,
                answered_by=answer.answered_by,
                model_version=answer.model_version,
                placement=placement,
                features=features,
                latency_ms=round((time.perf_counter() - started) * 1000, 3),
            )
            try:
                self._record(slate)
            except Exception as error:
                self._measured.failed("slates", error)


def _may_repeat(repeats: bool | None, model: Model | None) -> bool:
    if repeats is None:
        return model is not None and model.bundle.repeats
    return repeats


def _filter(request: RecommendationRequest, history: Sequence[SequenceEvent]) -> Filter | None:
    if request.condition is None:
        return None
    own = {
        Own.SEEN: {event.item_id for event in history},
        Own.BOUGHT: {event.item_id for event in history if event.event_type == PURCHASE},
    }
    return Filter(request.condition, own)


def warm_up(model: Model, catalog: Catalog) -> None:
    """Let a model answer once before it serves, so that its files and look-ups are in memory.

    Raises what the model raises when it can't answer.
    """
    catalog.mask(model)
    sample = model.bundle.item_ids[:: max(1, len(model.bundle.item_ids) // 50)][:50]
    history = [stages.Event(item_id) for item_id in sample]
    if not stages.recommend(model.bundle, history, 10, repeats=True):
        raise ValueError("the model has nothing to recommend")
    for item_id in sample[:5]:
        stages.similar_items(model.bundle, item_id, 10)
