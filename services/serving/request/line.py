"""The way of a recommendation: features → candidates → ranking → filtering → response.

Knows no HTTP. `slipstream.slates` makes the slate; here it gets its visitor, its id and its record.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from services.serving.metrics import ServingMetrics
from services.serving.request.audiences import Audiences
from services.serving.request.driving import Driver, GatheredLists, KeptList, KeptLists
from services.serving.request.explaining import LISTS, Explanations
from services.serving.request.recording import CircumstancesRecorder, slate_record
from services.serving.request.store_reads import Load, OnlineFeatures, StoreReads, Turnstile
from services.serving.request.trending import DemandLists
from services.serving.request.variant_slates import ShadowSlates, VariantSlates
from services.serving.settings import ServingSection
from slipstream.contracts.events import Slate
from slipstream.contracts.experiments import Experiment
from slipstream.contracts.placements import Placement
from slipstream.contracts.slates import new_recommendation_id
from slipstream.contracts.times import now_ms
from slipstream.features.visitor import visitor_features
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.catalogue.model import Model
from slipstream.slates.funnel import Funnel, Observation, funnel
from slipstream.slates.participation import NONE, PlacementPolicies, participation
from slipstream.slates.slate_plan import MadeSlate, SlatePlan
from slipstream.slates.slate_request import (
    RECORDED,
    SlateRequest,
    Step,
    VisitorReading,
    read_visitor,
    told_visitor,
    unread_visitor,
)
from slipstream.stores.online import StoreUnavailableError, VisitorValue

# Visitors of one request that are read at once: a group is one command of the online store.
_AT_ONCE: Final = 64


@dataclass(frozen=True)
class Shop:
    """What slates are made from, except the visitor.

    Attributes:
        catalog: Availability and attributes of items.
        current_model: Returns the model in service.
        placement: Returns a placement by its name; None where there is none.
        experiment: Returns the experiment that counts for a placement at a time (ms), or None.
        variant_model: Returns the model of an alias or version that a variant names, or None.
    """

    catalog: Catalog
    current_model: Callable[[], Model | None]
    placement: Callable[[str], Placement | None] = lambda _name: None
    experiment: Callable[[str, int], Experiment | None] = lambda _placement, _now_ms: None
    variant_model: Callable[[str], Model | None] = lambda _name: None


class Line:
    """The answering of requests.

    It answers also without a model, a known visitor, the online store or the broker.

    Args:
        shop: Models, catalogue, placements and experiments.
        record: Takes every slate; must not wait.
    """

    def __init__(
        self,
        online: OnlineFeatures,
        shop: Shop,
        measured: ServingMetrics,
        record: Callable[[Slate], None],
        own: ServingSection,
    ) -> None:
        self._shop, self._measured, self._record = shop, measured, record
        self._store = StoreReads(online, measured, own.redis_timeout_s)
        self._policies = PlacementPolicies(shop.placement)
        self._recorder = CircumstancesRecorder(
            shop.catalog, self._policies, measured, own.circumstances_bytes
        )
        self._lists, self._load = GatheredLists(), Load(own.longest_wait_s)
        self.kept_lists = KeptLists(own.kept_lists)
        demand = DemandLists(self._store, measured, own.trending_refresh_s)
        self._driver = Driver(shop.catalog, measured, self._lists, demand, self.kept_lists)
        self._variants = VariantSlates(self._driver, shop.variant_model, measured)
        self.shadows = ShadowSlates(
            self._variants, self._policies, self._load, self._store.budget, record, measured
        )
        self._explanations = Explanations(
            self._driver.masks, shop.catalog, measured, own.longest_wait_s
        )
        self.audiences = Audiences(
            self._store,
            shop.current_model,
            shop.catalog,
            measured,
            self._load,
            own.longest_wait_s,
        )

    def close(self) -> None:
        """End the threads of the model's kernels."""
        self.shadows.close()
        self._lists.close()
        self._explanations.close()
        self.audiences.close()

    async def answer_each(self, requests: Sequence[SlateRequest]) -> list[MadeSlate]:
        """The slate of each request, in the order asked.

        `_AT_ONCE` visitors are read at once. Then the event loop runs between two answers, so that
        other requests do not wait for all visitors of this one. Raises `OverloadedError`.
        """
        turnstile, slates = Turnstile(), list[MadeSlate]()
        with self._load.taken(len(requests)):
            for first in range(0, len(requests), _AT_ONCE):
                group = requests[first : first + _AT_ONCE]
                slates += await asyncio.gather(*(self._answer(each, turnstile) for each in group))
        return slates

    async def answer(self, request: SlateRequest) -> MadeSlate:
        """The slate of a request, recorded. Raises `OverloadedError`."""
        if not request.explain or request.given is not None:
            with self._load.taken():
                return await self._answer(request)
        with self._load.taken(LISTS), self._explanations.asked_for():
            return await self._answer(request)

    async def preview(self, request: SlateRequest, about: str | None) -> tuple[MadeSlate, Funnel]:
        """The slate of a request as `answer` makes it, with its funnel, and recorded nowhere.

        Args:
            request: A request for an explained slate, of purpose `PREVIEW`.
            about: An item to follow through the funnel; None for none.

        Raises:
            OverloadedError: See `answer`.
        """
        observed = Observation()
        with self._load.taken(LISTS), self._explanations.asked_for():
            slate = await self._answer(request, observed=observed)
            work = partial(funnel, slate, observed, self._shop.catalog, about)
            return slate, await self._explanations.in_turn(work)

    async def _answer(
        self,
        request: SlateRequest,
        turnstile: Turnstile | None = None,
        observed: Observation | None = None,
    ) -> MadeSlate:
        """The slate. `turnstile` is passed once the visitor is read.

        A slate that is `observed` is not recorded.
        """
        started = time.perf_counter()
        # Read once: a model that is swapped in during a wait must not mix with this one.
        model, catalog = self._shop.current_model(), self._shop.catalog
        budget = self._store.budget()

        # Features: the visitor's latest events, in one round trip to the online store.
        visitor, value = told_visitor(request), None
        if visitor is None:
            try:
                value = await self._store.visitor(request.user_id, budget)
            except StoreUnavailableError:
                visitor = self._unread(request, started)
        read_s = time.perf_counter() - started
        if turnstile is not None:
            await turnstile.passed()

        # Candidates, ranking, filtering: by the placement's policy, or an experiment's variants.
        now = now_ms()
        steps, late = self._in_time(request, started)
        plan = SlatePlan.of(
            request,
            model,
            self._policies.of(request),
            catalog.columns,
            now,
            new_recommendation_id(now),
            steps,
            self._recorder.given,
        )
        part = participation(request, self._shop.experiment, now)
        # A kept list is found before the visitor is decoded.
        who = value.revision if value is not None and not request.events else b""
        kept = self._driver.kept(plan, who) if part is NONE else None
        if visitor is None:
            visitor = self._visitor(request, value, kept, read_s)
        if request.given is not None:
            slate = await self._driver.ranking(plan, visitor, budget)
            if request.with_rules:
                slate.placement_revision = self._policies.revision(request.placement)
            self._publish(slate, visitor, {}, started)
            return slate
        if part is NONE:
            moment = self._recorder.moment(None, plan)
            slate = await self._driver.slate(plan, visitor, budget, who, kept, observed)
        else:
            own = plan.by(model, self._policies.of(request, part.maker), catalog.columns)
            moment = self._recorder.moment(part.maker, own)
            slate = await self._variants.of(part.maker, own, visitor, budget)
            slate.experiment, slate.variant = part.experiment, part.variant

        # Response: under an id that later interactions name.
        slate.placement_revision = next(iter(moment.placements.values()))
        slate.remarks = [visitor.problem if visitor.history else "", late, *slate.remarks]
        if request.explain and slate.answered_by is Step.MODEL:
            slate.reasons = await self._explanations.of(slate, visitor)
        if observed is not None:
            observed.visitor, observed.read_s = visitor, read_s
            slate.history_length = len(visitor.history)
            return slate
        circumstances = self._recorder.of(moment, plan, visitor, slate.plan.model)
        self._publish(slate, visitor, circumstances, started)
        for shadow in part.shadows:
            self.shadows.offer(part.experiment, shadow, plan, visitor, read_s)
        return slate

    def _visitor(
        self,
        request: SlateRequest,
        value: VisitorValue | None,
        kept: KeptList | None,
        read_s: float,
    ) -> VisitorReading:
        """The visitor of a request, as the store has them; `read_s` is the time of its answer."""
        began = time.perf_counter() - read_s
        try:
            if kept is not None:
                known = kept.visitor
                visitor = VisitorReading(
                    known.history, {}, known.problem, known.state, known.columns
                )
            else:
                visitor = read_visitor(request, value.state if value is not None else None)
        except StoreUnavailableError:
            return self._unread(request, began)
        try:
            visitor.features = visitor_features(visitor.state, now_ms(), RECORDED)
        except Exception as error:  # they are recorded, and no answer needs them
            visitor.features = {}
            self._measured.failed("features", error)
        self._measured.took("features", began, time.perf_counter() - began)
        return visitor

    def _unread(self, request: SlateRequest, began: float) -> VisitorReading:
        """The visitor while the store does not answer."""
        self._measured.unread(began)
        return unread_visitor(request)

    def _in_time(self, request: SlateRequest, started: float) -> tuple[Sequence[Step], str]:
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

    def _publish(
        self,
        slate: MadeSlate,
        visitor: VisitorReading,
        circumstances: Mapping[str, Any],
        started: float,
    ) -> None:
        began = time.perf_counter()
        slate.history_length = len(visitor.history)
        self._measured.answered(slate.answered_by)
        record = slate_record(slate, visitor, circumstances, began - started)
        try:
            self._record(record)
        except Exception as error:
            self._measured.failed("slates", error)
        self._measured.took("response", began, time.perf_counter() - began)
