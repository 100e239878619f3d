"""Recording of slates, with circumstances from which a replay makes the slate again.

Records go to the broker in groups: the work for one is mostly that for many.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple

import orjson

from services.serving.metrics import ServingMetrics
from slipstream.broker.producer import OutgoingRecord
from slipstream.chassis.logging import request_id
from slipstream.contracts.circumstances import (
    CATALOG_CHANGED,
    FORM,
    NEW_ITEMS_WAITED,
    RecordedHistory,
)
from slipstream.contracts.events import Slate
from slipstream.contracts.experiments import NO_EXPERIMENT, Variant
from slipstream.contracts.times import now_ms
from slipstream.contracts.topics import RECOMMENDATIONS
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.catalogue.model import Model
from slipstream.slates.participation import PlacementPolicies
from slipstream.slates.slate_plan import Candidate, MadeSlate, SlatePlan
from slipstream.slates.slate_request import SlateRequest, Step, VisitorReading

# Age of the catalogue's last change from which masks and lists follow it, with some to spare.
_SETTLED_S: Final = 1.5

# The fields that `_wishes` reads, and what they are in a request that says nothing of them.
_WISHES: Final = attrgetter(
    *("filter", "boosts", "exclude", "before", "similar_to", "repeats", "diversity"),
    *("exploration", "context", "window", "explain"),
)
_NO_WISHES: Final = _WISHES(SlateRequest())
# The same for the fields of a slate that most slates leave as they are.
_EXTRAS: Final = attrgetter(
    *("experiment", "variant", "substituted"),
    *("placement_revision", "touched", "propensities"),
)
_NO_EXTRAS: Final = ("", NO_EXPERIMENT, "", 0, (), ())


# Values of fields that are left out.
_EMPTY: Final[tuple[Any, ...]] = (None, "", [], {})

# Longest time that a slate waits for others. No request waits for it.
_DELAY_S: Final = 0.05
# Slates that are handed over at once. More would hold up the requests behind them for longer.
GROUP: Final = 32


class Moment(NamedTuple):
    """The state of rules and catalogue before a slate is made.

    Attributes:
        maker: The variant that makes the slate; None for the placement itself.
        placements: The placement that applies, and its revision.
        fatigue: Whether the policy counts impressions without a response.
        catalog: Positions of the catalogue's records.
    """

    maker: Variant | None
    placements: Mapping[str, int]
    fatigue: bool
    catalog: Mapping[str, Sequence[int]]


class CircumstancesRecorder:
    """The recording of circumstances. Used in one event loop.

    Args:
        most_bytes: Most bytes of a slate's circumstances; 0 records none.
    """

    def __init__(
        self,
        catalog: Catalog,
        policies: PlacementPolicies,
        measured: ServingMetrics,
        most_bytes: int,
    ) -> None:
        self._catalog, self._policies = catalog, policies
        self._measured, self._most_bytes = measured, most_bytes

    @property
    def given(self) -> list[tuple[Step, Sequence[Candidate]]] | None:
        """A list that takes what steps of the online store give; None where none is recorded."""
        return [] if self._most_bytes else None

    def moment(self, maker: Variant | None, plan: SlatePlan) -> Moment:
        """The state of rules and catalogue now; `plan` is that of the maker."""
        return Moment(
            maker,
            self._policies.revisions(plan.request.placement, maker),
            bool(plan.policy.policy.fatigue),
            self._catalog.applied.by_topic(),
        )

    def of(
        self, moment: Moment, plan: SlatePlan, visitor: VisitorReading, model: Model | None
    ) -> dict[str, Any]:
        """The circumstances of a slate. Of those that are too large, only the size is recorded.

        Args:
            moment: The state before it was made.
            model: The model that was asked; None without one.
        """
        if not self._most_bytes:
            return {}
        try:
            recorded = self._all(moment, plan, visitor, model)
            size = len(orjson.dumps(recorded))
        except Exception as error:  # a slate without circumstances is a slate
            self._measured.failed("circumstances", error)
            return {}
        return recorded if size <= self._most_bytes else {"form": FORM, "size": size}

    def _all(
        self,
        moment: Moment,
        plan: SlatePlan,
        visitor: VisitorReading,
        model: Model | None,
    ) -> dict[str, Any]:
        request = plan.request
        recorded: dict[str, Any] = {
            "form": FORM,
            "now": plan.now_ms,
            "n": request.n,
            "steps": [step.value for step in plan.steps],
        }
        # What is empty is left out, since readers fill it in.
        if model is not None:
            recorded["model"] = model.version
        if visitor.history:
            recorded["history"] = visitor.columns or RecordedHistory.columns(visitor.history)
        if visitor.problem:
            recorded["no_history"] = visitor.problem
        if moment.catalog:
            recorded["catalog"] = moment.catalog
        if request.placement:
            recorded["placements"] = moment.placements
        if moment.maker is not None:
            recorded["maker"] = moment.maker.model_dump()
        if plan.given and (given := _by_step(plan.given)):
            recorded["given"] = given
        if doubts := self._doubts(model):
            recorded["doubts"] = doubts
        if _WISHES(request) != _NO_WISHES:
            recorded |= _wishes(request)
        if moment.fatigue and (fatigue := visitor.fruitless(plan.now_ms)):
            recorded["fatigue"] = fatigue
        return recorded

    def _doubts(self, model: Model | None) -> list[str]:
        doubts = []
        if time.monotonic() - self._catalog.changed_at < _SETTLED_S:
            doubts.append(CATALOG_CHANGED)
        if model is not None and self._catalog.space(model).waiting:
            doubts.append(NEW_ITEMS_WAITED)
        return doubts


def slate_record(
    slate: MadeSlate,
    visitor: VisitorReading,
    circumstances: Mapping[str, Any],
    took_s: float,
) -> Slate:
    """The record of a slate.

    Args:
        circumstances: What it was made from; empty where it can't be made again.
    """
    request, extras = slate.plan.request, {}
    if _EXTRAS(slate) != _NO_EXTRAS:
        extras = {
            "experiment": slate.experiment,
            "variant": slate.variant,
            "substituted": slate.substituted,
            "placement_revision": slate.placement_revision,
            "rules": [*slate.touched],
            "propensities": [*slate.propensities],
            "sampled": slate.frame is not None,
        }
    return Slate.of_checked(
        recommendation_id=slate.recommendation_id,
        user_id=slate.user_id or f"anonymous:{slate.recommendation_id}",
        timestamp=now_ms(),
        items=slate.items,
        answered_by=slate.answered_by,
        model_version=slate.model_version,
        placement=request.placement,
        features=visitor.features,
        latency_ms=round(took_s * 1000, 3),
        purpose=request.purpose,
        circumstances=circumstances,
        **extras,
    )


class SlateOutbox:
    """Slates that wait to be handed to the producer, at most `GROUP`. Used in one event loop.

    Args:
        send: Hands records to the broker's client without waiting; what it can't deliver is lost,
            and counted by it.
        failed: Called with the error when `send` raises.
    """

    def __init__(
        self,
        send: Callable[[Sequence[OutgoingRecord]], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._send, self._failed = send, failed
        self._waiting: list[OutgoingRecord] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, slate: Slate) -> None:
        """Take a slate, which belongs to the request that is being handled."""
        self._waiting.append(
            OutgoingRecord(RECOMMENDATIONS, slate.user_id, slate, request_id.get())
        )
        if len(self._waiting) >= GROUP:
            self.hand_over()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_DELAY_S, self.hand_over)

    def hand_over(self) -> None:
        """Hand all that wait to the producer now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, []
        if waiting:
            try:
                self._send(waiting)
            except Exception as error:
                self._failed(error)


def _wishes(request: SlateRequest) -> dict[str, Any]:
    """The fields of a request that most requests leave as they are; empty ones are left out."""
    fields = {
        "filter": request.filter,
        "boosts": [boost.model_dump(exclude_defaults=True) for boost in request.boosts],
        "exclude": sorted(request.exclude),
        "before": list(request.before),
        "similar_to": list(request.similar_to),
        "repeats": request.repeats,
        "diversity": request.diversity,
        "exploration": request.exploration,
        "context": request.context,
        "window": request.window,
        "traced": request.explain or None,
    }
    return {name: value for name, value in fields.items() if value not in _EMPTY}


def _by_step(
    given: Sequence[tuple[Step, Sequence[Candidate]]],
) -> dict[str, list[list[str | float]]]:
    """The items that each step gave in all its calls, each once, as they stand in its list."""
    by_step: dict[str, dict[str, float]] = {}
    for step, items in given:
        of_step = by_step.setdefault(step.value, {})
        for item in items:
            of_step.setdefault(item.item_id, item.score)
    # Each call gives its items in the list's order, which is that of scores.
    return {
        step: [[item_id, score] for item_id, score in sorted(scores.items(), key=lambda it: -it[1])]
        for step, scores in by_step.items()
    }
