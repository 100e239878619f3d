"""Slates by the variants of experiments, each with its own policy and its own model.

Where a variant's model is not at hand, fails in any part, or rests after failures, the champion
answers, and the slate tells so: it must not be credited to the variant.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final
from weakref import WeakKeyDictionary

from services.serving.answers import Step
from services.serving.arranging.policies import CompiledPolicy
from services.serving.catalog import Catalog
from services.serving.fallback import FallbackChain
from services.serving.metrics import ServingMetrics
from services.serving.model_holder import Model
from services.serving.slate_making import MadeSlate, Occasion, made_slate
from services.serving.store_reads import CircuitBreaker
from slipstream.chassis.logging import get_logger
from slipstream.contracts.experiments import Variant

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
        chain: The steps.
        catalog: Attributes of items.
        model_of: Returns the model of an alias or version; None where it is not at hand.
        measured: Metrics.
    """

    def __init__(
        self,
        chain: FallbackChain,
        catalog: Catalog,
        model_of: Callable[[str], Model | None],
        measured: ServingMetrics,
    ) -> None:
        self._chain, self._catalog = chain, catalog
        self._model_of, self._measured = model_of, measured
        self._breakers: WeakKeyDictionary[Model, CircuitBreaker] = WeakKeyDictionary()

    async def of_each(
        self,
        makers: Sequence[Variant | None],
        policies: Sequence[CompiledPolicy],
        occasion: Occasion,
    ) -> list[MadeSlate]:
        """The slate of each variant by its policy; some perhaps by the champion.

        Args:
            makers: The variants; None for the placement itself.
            policies: Their policies.
            occasion: The request and its circumstances.
        """
        making = [self._of(*each, occasion) for each in zip(makers, policies, strict=True)]
        return [await making[0]] if len(making) == 1 else await asyncio.gather(*making)

    async def by_own_model(
        self, variant: Variant | None, policy: CompiledPolicy, occasion: Occasion
    ) -> MadeSlate | str:
        """The slate by the variant's model, or why that could not make it."""
        if variant is None or not variant.model:
            return await self._made(policy, occasion)
        model = self._model_of(variant.model)
        if model is None:
            return ABSENT
        if model is occasion.model:
            return await self._made(policy, occasion)
        breaker = self._breaker(model)
        if breaker.open and not breaker.takes_probe():
            return RESTING
        began = breaker.now()
        slate = await self._made(policy, occasion._replace(model=model))
        if slate.failed:
            breaker.failed(began)
            return FAILED
        if slate.answered_by is Step.MODEL:
            breaker.succeeded()
        return slate

    async def _of(
        self, variant: Variant | None, policy: CompiledPolicy, occasion: Occasion
    ) -> MadeSlate:
        slate = await self.by_own_model(variant, policy, occasion)
        if isinstance(slate, MadeSlate):
            return slate
        self._measured.substituted.labels(slate).inc()
        by_champion = await self._made(policy, occasion)
        model, name = (variant.model, variant.name) if variant is not None else ("", "")
        reason = f"the model {model} of variant {name} {_WORDS[slate]}: the champion answered"
        return replace(by_champion, substituted=slate, reasons=[reason, *by_champion.reasons])

    async def _made(self, policy: CompiledPolicy, occasion: Occasion) -> MadeSlate:
        return await made_slate(self._chain, self._catalog, policy, occasion)

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
