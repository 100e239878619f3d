"""The plan of a slate, which a placement's policy makes of one request, and the slate made by it.

A plan needs no visitor, so that it is made while nothing has been read yet. A making is a
generator: it yields what it needs from outside, gets it or an error, and returns its slate. So it
runs with servers and threads behind it, or with a record of what they gave.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from operator import attrgetter
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slipstream.contracts.experiments import NO_EXPERIMENT
from slipstream.contracts.placements import RuleTrace
from slipstream.contracts.reasons import SlateReasons
from slipstream.contracts.vocabulary import PURCHASE, SHOWN, signal_weight
from slipstream.filters.conditions import All, Condition, Own
from slipstream.models.base import Indices
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.stages import ListQuestion, RankedList, Recommendation, resting
from slipstream.slates.arranging.arrangement import Arrangement, arrange
from slipstream.slates.arranging.policies import CompiledPolicy
from slipstream.slates.arranging.pool import Pool, Visitor
from slipstream.slates.arranging.sampling import ItemFrame, is_sampled
from slipstream.slates.catalogue.columns import Columns
from slipstream.slates.catalogue.masks import Filter, Items
from slipstream.slates.catalogue.model import Model
from slipstream.slates.slate_request import Item, SlateRequest, Step, VisitorReading

# Candidates that a slate is arranged from, as many as the ranker orders.
POOL: Final = 200
# A slate's items are made of the candidates that it keeps: there are many more candidates.
Candidate = Item | Recommendation
_ITEM: Final = attrgetter("item_id")
_WHY_HIDDEN: Final = {
    Own.SEEN: "the visitor has just looked at it, and few look at an item twice in a row",
    Own.BOUGHT: "the visitor has bought it, and few buy it again, or so soon",
}


@dataclass(slots=True)
class SlatePlan:
    """A request, and how it is answered. It is not changed; see `SlateRequest`.

    Attributes:
        policy: The placement's policy, with the request's wishes.
        seed: The recommendation's id.
        given: Takes the items that steps of the online store give, with the step; None where
            they are not recorded.
        repeats: Whether items of the history may come again; None leaves it to the model.
        learned: The kinds of the visitor's items of which the model knows when they may come again.
        condition: What every item must meet; None lets all.
        samples: Whether the slate's order is drawn.
        is_plain: Whether the candidates' own order is the slate.
    """

    request: SlateRequest
    model: Model | None
    policy: CompiledPolicy
    now_ms: int
    seed: str
    steps: Sequence[Step]
    given: list[tuple[Step, Sequence[Candidate]]] | None
    repeats: bool | None
    learned: frozenset[Own]
    condition: Condition | None
    samples: bool
    is_plain: bool

    @classmethod
    def of(
        cls,
        request: SlateRequest,
        model: Model | None,
        policy: CompiledPolicy,
        known: Columns,
        now_ms: int,
        seed: str,
        steps: Sequence[Step] | None = None,
        given: list[tuple[Step, Sequence[Candidate]]] | None = None,
    ) -> "SlatePlan":
        """The plan of a request. Steps of None are all of the request's.

        Raises:
            FilterError: The request's filter can't be read.
        """
        context = request.context
        repeats = bool(request.repeats or (model is not None and model.bundle.repeats))
        condition = policy.condition(now_ms, context, known, model_repeats=repeats)
        both = [each for each in (request.condition(now_ms), condition) if each is not None]
        share = policy.policy.sampling
        samples = share > 0 and request.purpose == SHOWN and is_sampled(seed, share)
        return cls(
            request,
            model,
            policy,
            now_ms,
            seed,
            request.steps if steps is None else steps,
            given,
            request.repeats if request.repeats is not None else policy.repeats(),
            frozenset() if request.repeats else policy.learned(),
            (both[0] if len(both) == 1 else All(tuple(both))) if both else None,
            samples,
            policy.is_plain(now_ms, context, known) and not (samples or request.explain),
        )

    def by(self, model: Model | None, policy: CompiledPolicy, known: Columns) -> "SlatePlan":
        """The same by another model or policy. Arguments as of `of`."""
        if model is self.model and policy is self.policy:
            return self
        rest = (self.now_ms, self.seed, self.steps, self.given)
        return SlatePlan.of(self.request, model, policy, known, *rest)

    def about(self, known: Columns) -> "SlatePlan":
        """The same for items that have other attributes."""
        rest = (self.now_ms, self.seed, self.steps, self.given)
        return SlatePlan.of(self.request, self.model, self.policy, known, *rest)

    @property
    def explores(self) -> bool:
        """Whether places may go to items of which little is known."""
        return self.policy.policy.exploration > 0 and not self.samples

    @property
    def depth(self) -> int:
        """The number of candidates that the slate is made from."""
        return self.request.n if self.is_plain else max(POOL, self.request.n)

    def wanted(self, visitor: VisitorReading) -> Filter | None:
        """What every item must meet, for this visitor; None lets all."""
        return None if self.condition is None else Filter(self.condition, own_items(visitor))

    def excluded(self, visitor: VisitorReading) -> set[str]:
        """The items that the slate must not have, whatever their attributes."""
        request, exclude = self.request, set(self.request.exclude)
        exclude.update(request.before, request.similar_to)
        if not self.may_repeat:
            exclude.update(map(_ITEM, visitor.history))
        return exclude.union(*self.resting(visitor).values())

    @property
    def may_repeat(self) -> bool:
        """Whether items of the history may come again, as far as they do not rest."""
        if self.repeats is None:
            return self.model is not None and self.model.bundle.repeats
        return self.repeats

    def resting(self, visitor: VisitorReading) -> dict[Own, set[str]]:
        """The items of the history that come again, but not yet, by what the model learned."""
        if self.model is None or not self.learned or not self.may_repeat:
            return {}
        rest = resting(self.model.bundle, visitor.history, self.now_ms)
        both = {Own.SEEN: rest.looked_at, Own.BOUGHT: rest.bought}
        return {own: ids for own, ids in both.items() if ids and own in self.learned}

    def hidden(self, visitor: VisitorReading) -> list[RuleTrace]:
        """An account of the items that rest, as rules give one of theirs."""
        return [
            RuleTrace(rule=own, action="hide", items=sorted(ids), note=_WHY_HIDDEN[own])
            for own, ids in self.resting(visitor).items()
        ]


def own_items(visitor: VisitorReading) -> dict[Own, set[str]]:
    """The items that a visitor has to do with."""
    return {
        Own.SEEN: {event.item_id for event in visitor.history},
        Own.BOUGHT: {event.item_id for event in visitor.history if event.event_type == PURCHASE},
    }


def arranged(
    plan: SlatePlan,
    visitor: VisitorReading,
    known: Items,
    candidates: Sequence[Candidate],
    tiers: Sequence[int],
) -> Arrangement:
    """The arrangement of candidates by a plan's policy. `known` has the candidates in their order,
    then the visitor's other items where the policy looks back. A list of the model is not named for
    it.
    """
    policy, history = plan.policy.policy, visited(visitor)
    pool = Pool(
        lambda place: candidates[place].item_id,
        candidates.scores.astype(np.float64)
        if isinstance(candidates, RankedList)
        else np.array([each.score for each in candidates], np.float64),
        np.array(tiers, np.int64),
        known,
        _numbers(plan.model, candidates) < 0 if plan.explores else None,
        _vectors(plan.model, known.columns, candidates) if policy.diversity else None,
    )
    past = Visitor(
        history,
        [signal_weight(event.event_type, event.value) for event in reversed(visitor.history)]
        if policy.calibration
        else [1.0] * len(history),
        own_items(visitor),
        visitor.fruitless(plan.now_ms) if policy.fatigue else {},
    )
    return arrange(
        pool,
        plan.request.n,
        plan.policy,
        past,
        plan.now_ms,
        plan.request.context,
        plan.seed,
        traced=plan.request.explain,
        samples=plan.samples,
    )


def visited(visitor: VisitorReading) -> list[str]:
    """The items of a visitor's history, latest first; perhaps several times."""
    return [event.item_id for event in reversed(visitor.history)]


def _numbers(model: Model | None, candidates: Sequence[Candidate]) -> Indices:
    """The place of each candidate in the model's catalogue; -1 for one that it does not know."""
    if isinstance(candidates, RankedList):
        return candidates.items
    index: Mapping[str, int] = model.bundle.index if model is not None else {}
    ids = (each.item_id for each in candidates)
    return np.fromiter(map(index.get, ids, repeat(-1)), np.int32, len(candidates))


def _vectors(
    model: Model | None, columns: Columns, candidates: Sequence[Candidate]
) -> NDArray[np.float32] | None:
    """The network's vectors of the candidates, zeros for those that it does not know.

    None without a network, and where categories make items alike: these are what people see, and
    cost half.
    """
    if model is None or model.bundle.network is None or columns.categories or columns.lists:
        return None
    numbers = _numbers(model, candidates)
    vectors = model.bundle.network.items.vectors(np.maximum(numbers, 0))
    vectors[numbers < 0] = 0
    return vectors


class ListAsked(NamedTuple):
    """A question to the kernels of a bundle. The answer is a list of recommendations."""

    bundle: Bundle
    question: ListQuestion


class DemandAsked(NamedTuple):
    """A list of demand: of what trends, or of a window of popular items. The answer is `Demand`."""

    step: Step
    model: Model | None
    window: str


class Demand(NamedTuple):
    """Items in demand with their weights, highest first, and why there may be none."""

    entries: Sequence[tuple[str, float]]
    why_none: str


class MaskAsked(NamedTuple):
    """Whether each item of a model's space passes a filter. The answer is a mask."""

    model: Model
    wanted: Filter


class WorkAsked(NamedTuple):
    """Work that takes long. The answer is the function's result."""

    work: Callable[[], Any]


Asked = ListAsked | DemandAsked | MaskAsked | WorkAsked


@dataclass(slots=True)
class MadeSlate:
    """A slate, and how it came about.

    Attributes:
        items: The items; while it is made, the candidates so far, perhaps the model's own list.
        tiers: The place of each candidate's step among the steps.
        pool: The candidates that were arranged; empty for a slate that is their own order.
        arrangement: Their arrangement.
        answered_by: The step that gave the first items.
        remarks: Why a step had no items, or not enough, and which later ones filled the slate.
        failed: Whether the model raised.
        listed: The model's own list, where it made one without a filter.
        took: The stages, each with its begin by `time.perf_counter`, and the seconds that it took.
        failures: The parts that failed, each with its error.
        rules: Accounts of the rules of the placement's revision.
        touched: For each item the names of the rules that moved it; empty for none.
        propensities: The probability with which each item stands where it stands; empty where
            nothing was drawn.
        frame: The candidates of a sampled order; None where it is not.
        reasons: Reasons of the items, which are measured by leaving out parts of the history.
        substituted: Why the champion answered for a variant's model; empty where it did not.
        placement_revision: The revision of the rules; 0 for none.
    """

    plan: SlatePlan
    items: Sequence[Candidate] = ()
    tiers: list[int] = field(default_factory=list)
    pool: Sequence[Candidate] = ()
    arrangement: Arrangement | None = None
    answered_by: Step = Step.NONE
    model_version: str | None = None
    remarks: list[str] = field(default_factory=list)
    failed: bool = False
    listed: Sequence[Recommendation] | None = None
    took: list[tuple[str, float, float]] = field(default_factory=list)
    failures: list[tuple[str, Exception]] = field(default_factory=list)
    rules: Sequence[RuleTrace] = ()
    touched: Sequence[Sequence[str]] = ()
    propensities: Sequence[float] = ()
    frame: ItemFrame | None = None
    reasons: SlateReasons | None = None
    experiment: str = ""
    variant: str = NO_EXPERIMENT
    substituted: str = ""
    history_length: int = 0
    placement_revision: int = 0

    @property
    def recommendation_id(self) -> str:
        """The id that later interactions name."""
        return self.plan.seed

    @property
    def user_id(self) -> str:
        """The visitor; empty for no particular one."""
        return self.plan.request.user_id

    @property
    def reason(self) -> str:
        """The remarks as one text."""
        return "; ".join(filter(None, self.remarks))


Making = Generator[Asked, Any, MadeSlate]
