"""The way of a recommendation: features → candidates → ranking → filtering → response.

Knows no HTTP. `services.serving.fallback` holds the steps that can answer.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from services.serving.answers import Answer, RecommendationRequest, Step
from services.serving.audiences.audiences import Audiences
from services.serving.catalog import Catalog
from services.serving.experiments.interleaving import one_list
from services.serving.experiments.participation import ExperimentOf, participation
from services.serving.experiments.shadows import ShadowSlates
from services.serving.experiments.variant_slates import VariantSlates
from services.serving.explaining import LISTS, Explanations
from services.serving.fallback import FallbackChain
from services.serving.gathered_lists import GatheredLists
from services.serving.kept_lists import KeptLists
from services.serving.load import Load
from services.serving.metrics import ServingMetrics
from services.serving.model_holder import Model
from services.serving.placement_policies import PlacementPolicies
from services.serving.rankings.ranking import RankingRequest, Rankings
from services.serving.replay.recording import CircumstancesRecorder
from services.serving.slate_making import Occasion
from services.serving.store_reads import OnlineFeatures, StoreReads
from services.serving.turnstile import Turnstile
from services.serving.visitor_reading import read_visitor
from slipstream.contracts.events import Slate
from slipstream.contracts.placements import Placement
from slipstream.contracts.recommendation_ids import new_recommendation_id
from slipstream.contracts.times import now_ms
from slipstream.contracts.vocabulary import RANKED, SHOWN
from slipstream.recommender import stages

# Visitors of one request that are read at once: a group is one command of the online store.
_AT_ONCE = 64
# Circumstances of slates that can't be made again.
_NOT_RECORDED: Final[Mapping[str, Any]] = {}


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
        longest_wait_s: Wait from which a request is refused.
        placement: Returns a placement by its name; None where there is none.
        experiment: Returns the experiment that counts for a placement at a time (ms), or None.
        circumstances_bytes: Most bytes of the circumstances that a slate is recorded with.
        variant_model: Returns the model of an alias or version that a variant names, or None.
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
        longest_wait_s: float = 1.0,
        placement: Callable[[str], Placement | None] = lambda _name: None,
        experiment: ExperimentOf = lambda _placement, _now_ms: None,
        circumstances_bytes: int = 16_384,
        variant_model: Callable[[str], Model | None] = lambda _name: None,
    ) -> None:
        self._current_model, self._measured, self._record = current_model, measured, record
        self._store = StoreReads(online, measured, store_timeout_s)
        self._catalog, self._policies = catalog, PlacementPolicies(placement)
        self._experiment = experiment
        self._recorder = CircumstancesRecorder(
            catalog, self._policies, measured, circumstances_bytes
        )
        self._lists, self._load = GatheredLists(), Load(longest_wait_s)
        self.kept_lists = KeptLists(kept_lists)
        self._chain = FallbackChain(
            catalog, measured, self._store, self._lists, self.kept_lists, trending_refresh_s
        )
        self._rankings = Rankings(self._chain, catalog, self._policies)
        self._slates = VariantSlates(self._chain, catalog, variant_model, measured)
        self.shadows = ShadowSlates(
            self._slates, self._policies, self._load, self._store.budget, record, measured
        )
        self._explanations = Explanations(self._chain, catalog, measured, longest_wait_s)
        self.audiences = Audiences(
            self._store, current_model, catalog, measured, self._load, longest_wait_s
        )

    def close(self) -> None:
        """End the threads of the model's kernels."""
        self.shadows.close()
        self._lists.close()
        self._explanations.close()
        self.audiences.close()

    async def recommend_each(self, requests: Sequence[RecommendationRequest]) -> list[Answer]:
        """The best items for each request, in the order asked.

        `_AT_ONCE` visitors are read at once. Then the event loop runs between two answers, so that
        many visitors in one request keep nobody waiting for all of them. Raises `OverloadedError`.
        """
        turnstile, answers = Turnstile(), list[Answer]()
        with self._load.taken(len(requests)):
            for first in range(0, len(requests), _AT_ONCE):
                group = requests[first : first + _AT_ONCE]
                answers += await asyncio.gather(
                    *(self._recommend(each, turnstile) for each in group)
                )
        return answers

    async def recommend(self, request: RecommendationRequest) -> Answer:
        """The best `n` items for this request. Raises `OverloadedError`."""
        if not request.explain:
            with self._load.taken():
                return await self._recommend(request)
        with self._load.taken(LISTS), self._explanations.asked_for():
            return await self._recommend(request)

    async def _recommend(
        self, request: RecommendationRequest, turnstile: Turnstile | None = None
    ) -> Answer:
        """The answer. `turnstile` is passed once the visitor is read."""
        started = time.perf_counter()
        # Read once: a model that is swapped in during a wait must not mix with this one.
        model = self._current_model()
        budget = self._store.budget()

        # Features: the visitor's latest events, in one round trip to the online store.
        visitor = await read_visitor(request, self._store, budget, self._measured)
        read_s = time.perf_counter() - started
        if turnstile is not None:
            await turnstile.passed()

        # Candidates, ranking, filtering: by the placement's policy, or an experiment's variants.
        now = now_ms()
        part = participation(request, self._experiment, now)
        steps, late = self._in_time(request, started)
        recommendation_id, given = new_recommendation_id(now), self._recorder.given
        occasion = Occasion(request, visitor, model, steps, budget, now, recommendation_id, given)
        policies = [self._policies.of(request, variant) for variant in part.makers]
        moment = self._recorder.moment(request, part.makers, policies)
        slates = await self._slates.of_each(part.makers, policies, occasion)
        slate, teams = one_list(part.makers, slates, request.n, recommendation_id)

        # Response: under an id that later interactions name.
        answer = Answer(
            recommendation_id,
            request.user_id,
            slate.items,
            slate.answered_by,
            "; ".join(
                filter(None, (visitor.problem if visitor.history else "", late, *slate.reasons))
            ),
            slate.version,
            len(visitor.history),
            next(iter(moment.placements.values())),
            slate.rules,
            slate.touched,
            slate.propensities,
            await self._explanations.of(slate.asked, [item.item_id for item in slate.items])
            if request.explain and slate.answered_by is Step.MODEL
            else None,
            part.experiment,
            part.variant,
            teams,
            slate.substituted,
        )
        circumstances = self._recorder.of(moment, occasion, [each.model for each in slates])
        self._publish(
            answer, visitor.features, request.placement, request.purpose, started, circumstances
        )
        for shadow in part.shadows:
            self.shadows.offer(part.experiment, shadow, occasion, read_s)
        return answer

    def _in_time(
        self, request: RecommendationRequest, started: float
    ) -> tuple[Sequence[Step], str]:
        """The steps that can answer until the request's deadline, and why not all can."""
        if request.deadline_s is None:
            return request.steps, ""
        expected_s = time.perf_counter() - started + self._load.wait_s
        if expected_s <= request.deadline_s:
            return request.steps, ""
        return (Step.TRENDING,), (
            f"the model would have answered after {expected_s * 1000:.0f} ms, and the deadline is "
            f"{request.deadline_s * 1000:.0f}"
        )

    async def rank(self, request: RankingRequest) -> Answer:
        """The given items, each once, best first, as `Rankings` orders them.

        Raises `OverloadedError`.
        """
        with self._load.taken():
            return await self._rank(request)

    async def _rank(self, request: RankingRequest) -> Answer:
        started = time.perf_counter()
        model = self._current_model()
        budget = self._store.budget()
        visitor = await read_visitor(
            RecommendationRequest(user_id=request.user_id), self._store, budget, self._measured
        )
        recommendation_id = new_recommendation_id(now_ms())
        made = await self._rankings.ranked(request, visitor, model, budget, recommendation_id)
        answer = Answer(
            recommendation_id,
            request.user_id,
            made.items,
            made.answered_by,
            "; ".join(filter(None, made.reasons)),
            made.version,
            len(visitor.history),
            self._policies.revision(request.placement) if request.with_rules else 0,
            made.rules,
            made.touched,
        )
        purpose = SHOWN if request.shown else RANKED
        self._publish(answer, visitor.features, request.placement, purpose, started)
        return answer

    def _publish(
        self,
        answer: Answer,
        features: dict[str, float],
        placement: str,
        purpose: str,
        started: float,
        circumstances: Mapping[str, Any] = _NOT_RECORDED,
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
                experiment=answer.experiment,
                variant=answer.variant,
                teams=[*answer.teams],
                substituted=answer.substituted,
                placement=placement,
                placement_revision=answer.placement_revision,
                rules=[*answer.touched],
                propensities=[*answer.propensities],
                features=features,
                latency_ms=round((time.perf_counter() - started) * 1000, 3),
                purpose=purpose,
                circumstances=circumstances,
            )
            try:
                self._record(slate)
            except Exception as error:
                self._measured.failed("slates", error)


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
