"""Slates of shadow variants: made after the answer that a visitor sees, for the record alone."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from services.serving.deadlines import Budget
from services.serving.experiments.variant_slates import VariantSlates
from services.serving.load import Load
from services.serving.metrics import ServingMetrics
from services.serving.placement_policies import PlacementPolicies
from services.serving.slate_making import MadeSlate, Occasion
from slipstream.chassis.logging import carrying, request_id
from slipstream.contracts.events import Slate
from slipstream.contracts.experiments import Variant
from slipstream.contracts.recommendation_ids import new_recommendation_id
from slipstream.contracts.times import now_ms
from slipstream.contracts.vocabulary import SHADOW

# Most shadows that wait for their turn, and the wait of requests from which none is made.
MOST_WAITING: Final = 32
LONGEST_WAIT_S: Final = 0.02


class _Shadow(NamedTuple):
    experiment: str
    variant: Variant
    occasion: Occasion
    read_s: float
    request_id: str


class ShadowSlates:
    """The shadows that wait, made one by one. Used in one event loop.

    Under load they are dropped and counted, so that no visitor waits for one.

    Args:
        slates: The making of slates by variants.
        policies: Policies of placements and variants.
        load: The requests in work.
        budget: Returns the waiting time of a request for the online store.
        record: Takes every slate; must not wait.
        measured: Metrics.
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

    def offer(self, experiment: str, variant: Variant, occasion: Occasion, read_s: float) -> None:
        """Have a shadow made for an answer that is on its way.

        Args:
            experiment: The experiment.
            variant: The shadow.
            occasion: That of the answer, whose id is its seed.
            read_s: Time that the read of the visitor took, which counts as the shadow's, too.
        """
        if len(self._waiting) >= MOST_WAITING:
            self._measured.shadows.labels("dropped").inc()
            return
        self._waiting.append(_Shadow(experiment, variant, occasion, read_s, request_id.get()))
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
            occasion = shadow.occasion._replace(budget=self._budget(), given=None)
            policy = self._policies.of(occasion.request, shadow.variant)
            made = await self._slates.by_own_model(shadow.variant, policy, occasion)
            self._record(_slate(shadow, made, shadow.read_s + time.perf_counter() - started))
        except Exception as error:
            self._measured.failed("shadows", error)
            return
        self._measured.shadows.labels("logged").inc()


def _slate(shadow: _Shadow, made: MadeSlate | str, took_s: float) -> Slate:
    """The record of a shadow; one that its model could not make has no items, and says why."""
    occasion, request = shadow.occasion, shadow.occasion.request
    told: dict[str, Any] = {"substituted": made, "items": [], "answered_by": "none"}
    if isinstance(made, MadeSlate):
        told = {
            "items": made.items,
            "answered_by": made.answered_by,
            "model_version": made.version,
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
        shadow_of=occasion.seed,
        **told,
    )
