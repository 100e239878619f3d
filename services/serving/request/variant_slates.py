"""Slates by the variants of experiments, each with its own policy and its own model; and shadows.

Where a variant's model is not at hand, fails in any part, or rests after failures, the champion
answers, and the slate tells so: it must not be credited to the variant. Shadows are made after the
answer that a visitor sees, for the record alone.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from services.serving.metrics import ServingMetrics
from services.serving.request.driving import Driver
from services.serving.request.store_reads import Budget, CircuitBreaker, Load
from slipstream.chassis.logging import carrying, get_logger, request_id
from slipstream.contracts.events import Slate
from slipstream.contracts.experiments import Variant
from slipstream.contracts.slates import new_recommendation_id
from slipstream.contracts.times import now_ms
from slipstream.contracts.vocabulary import SHADOW
from slipstream.slates.catalogue.columns import Columns
from slipstream.slates.catalogue.model import Model
from slipstream.slates.participation import PlacementPolicies
from slipstream.slates.slate_plan import MadeSlate, SlatePlan
from slipstream.slates.slate_request import Step, VisitorReading

log = get_logger(__name__)

# Why a variant's model did not make a slate.
ABSENT: Final = "absent"
FAILED: Final = "failed"
RESTING: Final = "resting"
_WORDS: Final = {
    ABSENT: "is not at hand",
    FAILED: "failed",
    RESTING: "rests after failures",
}
# Failures in a row after which a model rests, and the time until it is tried again.
FAILURES: Final = 5
REST_S: Final = 10.0


class VariantSlates:
    """The making of slates by variants. Used in one event loop.

    Args:
        model_of: Returns the model of an alias or version; None where it is not at hand.
    """

    def __init__(
        self,
        driver: Driver,
        model_of: Callable[[str], Model | None],
        measured: ServingMetrics,
    ) -> None:
        self._driver, self._model_of, self._measured = driver, model_of, measured
        self._breakers: WeakKeyDictionary[Model, CircuitBreaker] = WeakKeyDictionary()

    async def of(
        self, variant: Variant | None, plan: SlatePlan, visitor: VisitorReading, budget: Budget
    ) -> MadeSlate:
        """The slate of a variant, perhaps by the champion.

        Args:
            variant: The variant; None for the placement itself.
            plan: The plan by the champion and the variant's policy.
            budget: The time that is left to wait for the online store.
        """
        slate = await self.by_own_model(variant, plan, visitor, budget)
        if isinstance(slate, MadeSlate):
            return slate
        self._measured.substituted.labels(slate).inc()
        by_champion = await self._driver.slate(plan, visitor, budget)
        model, name = (variant.model, variant.name) if variant is not None else ("", "")
        by_champion.substituted = slate
        by_champion.remarks.insert(
            0, f"the model {model} of variant {name} {_WORDS[slate]}: the champion answered"
        )
        return by_champion

    async def by_own_model(
        self, variant: Variant | None, plan: SlatePlan, visitor: VisitorReading, budget: Budget
    ) -> MadeSlate | str:
        """The slate by the variant's model, or why that could not make it."""
        if variant is None or not variant.model:
            return await self._driver.slate(plan, visitor, budget)
        model = self._model_of(variant.model)
        if model is None:
            return ABSENT
        if model is plan.model:
            return await self._driver.slate(plan, visitor, budget)
        breaker = self._breaker(model)
        if breaker.open and not breaker.takes_probe():
            return RESTING
        began = breaker.now()
        own = plan.by(model, plan.policy, self.columns)
        slate = await self._driver.slate(own, visitor, budget)
        if slate.failed:
            breaker.failed(began)
            return FAILED
        if slate.answered_by is Step.MODEL:
            breaker.succeeded()
        return slate

    @property
    def columns(self) -> Columns:
        """The attributes of the catalogue's items."""
        return self._driver.catalog.columns

    def _breaker(self, model: Model) -> CircuitBreaker:
        breaker = self._breakers.get(model)
        if breaker is None:
            changed = partial(_tell, model.version)
            breaker = CircuitBreaker(changed, failures=FAILURES, pause_s=REST_S)
            self._breakers[model] = breaker
        return breaker


def _tell(version: str, is_open: bool) -> None:
    if is_open:
        log.warning("a variant's model fails and rests; the champion answers", version=version)
    else:
        log.info("a variant's model answers again", version=version)


# Most shadows that wait for their turn, and the wait of requests from which none is made.
MOST_WAITING: Final = 32
LONGEST_WAIT_S: Final = 0.02


class _Shadow(NamedTuple):
    experiment: str
    variant: Variant
    plan: SlatePlan
    visitor: VisitorReading
    read_s: float
    request_id: str


class ShadowSlates:
    """The shadows that wait, made one by one. Used in one event loop.

    Under load they are dropped and counted, so that no visitor waits for one.

    Args:
        budget: Returns the waiting time of a request for the online store.
        record: Takes every slate; must not wait.
    """

    def __init__(
        self,
        slates: VariantSlates,
        policies: PlacementPolicies,
        load: Load,
        budget: Callable[[], Budget],
        record: Callable[[Slate], None],
        measured: ServingMetrics,
    ) -> None:
        self._slates, self._policies = slates, policies
        self._load, self._budget = load, budget
        self._record, self._measured = record, measured
        self._waiting: deque[_Shadow] = deque()
        self._task: asyncio.Task[None] | None = None

    def offer(
        self,
        experiment: str,
        variant: Variant,
        plan: SlatePlan,
        visitor: VisitorReading,
        read_s: float,
    ) -> None:
        """Have a shadow made for an answer that is on its way.

        Args:
            plan: That of the answer. The answer's id is also the shadow's seed.
            read_s: Time that the read of the visitor took, which counts as the shadow's, too.
        """
        if len(self._waiting) >= MOST_WAITING:
            self._measured.shadows.labels("dropped").inc()
            return
        self._waiting.append(_Shadow(experiment, variant, plan, visitor, read_s, request_id.get()))
        if self._task is None:
            self._task = asyncio.create_task(self._make_all())

    def close(self) -> None:
        """Give up those that wait."""
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()

    async def _make_all(self) -> None:
        try:
            while self._waiting:
                # The answers of this turn of the event loop go out first.
                await asyncio.sleep(0)
                shadow = self._waiting.popleft()
                if self._load.wait_s > LONGEST_WAIT_S:
                    self._measured.shadows.labels("dropped").inc()
                    continue
                with carrying(shadow.request_id):
                    await self._make(shadow)
        finally:
            self._task = None

    async def _make(self, shadow: _Shadow) -> None:
        started = time.perf_counter()
        try:
            policy = self._policies.of(shadow.plan.request, shadow.variant)
            plan = replace(
                shadow.plan.by(shadow.plan.model, policy, self._slates.columns), given=None
            )
            made = await self._slates.by_own_model(
                shadow.variant, plan, shadow.visitor, self._budget()
            )
            self._record(
                _shadow_record(shadow, made, shadow.read_s + time.perf_counter() - started)
            )
        except Exception as error:
            self._measured.failed("shadows", error)
            return
        self._measured.shadows.labels("logged").inc()


def _shadow_record(shadow: _Shadow, made: MadeSlate | str, took_s: float) -> Slate:
    """The record of a shadow; one that its model could not make has no items, and says why."""
    request = shadow.plan.request
    told: dict[str, Any] = {"substituted": made, "items": [], "answered_by": "none"}
    if isinstance(made, MadeSlate):
        told = {
            "items": made.items,
            "answered_by": made.answered_by,
            "model_version": made.model_version,
            "propensities": [*made.propensities],
        }
    return Slate.of_checked(
        recommendation_id=new_recommendation_id(now := now_ms()),
        user_id=request.user_id,
        timestamp=now,
        experiment=shadow.experiment,
        variant=shadow.variant.name,
        placement=request.placement,
        latency_ms=round(took_s * 1000, 3),
        purpose=SHADOW,
        shadow_of=shadow.plan.seed,
        **told,
    )
