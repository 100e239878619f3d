"""The funnel of one slate: candidates into and out of each stage, and the fall of one item.

For people who ask why a list is as it is. The model's kernels are asked again, since they keep
nothing of an answer but its list.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final, NamedTuple

import numpy as np

from slipstream.contracts.placements import CapRule, ExcludeRule, IncludeRule
from slipstream.filters.conditions import Condition, Own, SharedWith
from slipstream.models.base import Mask
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.plan import OrderedCandidates
from slipstream.recommender.stages import ListQuestion
from slipstream.slates.arranging.arrangement import Arrangement
from slipstream.slates.catalogue.borrowing import CONTENT
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.catalogue.masks import mask
from slipstream.slates.reasons.words import ordinal
from slipstream.slates.slate_plan import (
    Asked,
    ListAsked,
    MadeSlate,
    Making,
    MaskAsked,
    SlatePlan,
    own_items,
    visited,
)
from slipstream.slates.slate_request import Step, VisitorReading

_HIDDEN: Final = {
    "deleted": "it was deleted from the catalogue",
    "unavailable": "the catalogue says that it is not available",
    "expired": "its attribute expires_at is over",
}
_MET: Final = {
    Own.SEEN: "the visitor has had to do with it, or with another item of its group",
    Own.BOUGHT: "the visitor has bought it, or another item of its group",
}


@dataclass
class Observation:
    """What is noted while a slate is made.

    Attributes:
        visitor: The visitor.
        read_s: Time that the read of the visitor took.
        answered: Questions of the making with their answers, and the seconds that each took.
    """

    visitor: VisitorReading = field(default_factory=VisitorReading)
    read_s: float = 0.0
    answered: list[tuple[Asked, Any, float]] = field(default_factory=list)

    def watching(self, steps: Making) -> Making:
        """The same making, of which questions with an answer are noted."""
        try:
            question = next(steps)
            while True:
                began = perf_counter()
                try:
                    answer = yield question
                except Exception as error:
                    question = steps.throw(error)
                else:
                    self.answered.append((question, answer, perf_counter() - began))
                    question = steps.send(answer)
        except StopIteration as end:
            made: MadeSlate = end.value
            return made


class Stage(NamedTuple):
    """A stage with the candidates that came in and went on; None where it handles none."""

    name: str
    came: int | None
    left: int | None
    seconds: float


class Fall(NamedTuple):
    """The stage at which an item fell, the reason as a code, and in words."""

    stage: str
    reason: str
    detail: str


class Funnel(NamedTuple):
    """The stages of a slate in their order.

    Attributes:
        position: The place of the item in question, from 0; None where it is not in the slate.
        fall: Its fall; None where it is in the slate, or no item is in question.
    """

    stages: list[Stage]
    position: int | None = None
    fall: Fall | None = None


class _Retrieval(NamedTuple):
    """The model's candidates, and what it was asked.

    Attributes:
        bundle: The bundle.
        question: The question.
        found: The candidates.
        listed: Length of the list.
        retrieval_s: Time that the candidates took.
        ranking_s: Time of the whole answer without it.
    """

    bundle: Bundle
    question: ListQuestion
    found: OrderedCandidates
    listed: int
    retrieval_s: float
    ranking_s: float

    @classmethod
    def of(cls, observed: Observation) -> "_Retrieval | None":
        """The retrieval of the slate's first list; None where the model has made none."""
        for asked, answer, seconds in observed.answered:
            if isinstance(asked, ListAsked):
                ask = asked.bundle.plan.candidates
                history, excluded, request = asked.question
                began = perf_counter()
                ask(history, request._replace(n=0, depth=0), excluded)
                retrieval_s = perf_counter() - began
                found = ask(history, request._replace(n=0), excluded)
                ranking_s = max(0.0, seconds - retrieval_s)
                return cls(asked.bundle, asked.question, found, len(answer), retrieval_s, ranking_s)
        return None


def funnel(
    made: MadeSlate, observed: Observation, catalog: Catalog, about: str | None = None
) -> Funnel:
    """The funnel of an explained slate. For a thread: it asks the kernels twice. `about` is an item
    that may have fallen.
    """
    retrieval = _Retrieval.of(observed)
    stages = _stages(made, observed, catalog, retrieval)
    if about is None:
        return Funnel(stages)
    for position, item in enumerate(made.items):
        if item.item_id == about:
            return Funnel(stages, position)
    fall = (
        _hidden(catalog, about)
        or _excluded(made.plan, observed.visitor, catalog, about)
        or _arranged_out(made, observed.visitor, catalog, about)
        or _not_listed(made, retrieval, about)
    )
    return Funnel(stages, None, fall)


def _stages(
    made: MadeSlate, observed: Observation, catalog: Catalog, retrieval: _Retrieval | None
) -> list[Stage]:
    took: defaultdict[str, float] = defaultdict(float)
    for name, _, seconds in made.took:
        took[name] += seconds
    new = sum(each.source == Step.NEW for each in made.pool) if made.plan.explores else 0
    by_tier = Counter(made.tiers)
    by_tier[0] -= new
    stages, size = [Stage("features", None, None, observed.read_s)], 0
    for tier, step in enumerate(made.plan.steps):
        if step is Step.MODEL and retrieval is not None:
            stages += _of_model(made, observed, catalog, retrieval)
            # A retriever has the same name as the source of new items.
            known = retrieval.bundle.index
            if any(each.source == CONTENT and each.item_id not in known for each in made.pool):
                listed = stages[-1].left
                rest = took[step] - sum(stage.seconds for stage in stages[1:])
                stages.append(Stage("new_items", listed, by_tier[tier], max(0.0, rest)))
        elif step in took:
            stages.append(Stage(step, size, size + by_tier[tier], took[step]))
        size += by_tier[tier]
    for name, count in (("exploration", new), ("pins", by_tier[len(made.plan.steps)])):
        if count:
            stages.append(Stage(name, size, size + count, 0.0))
            size += count
    stages.append(Stage("arrangement", size, len(made.items), took["arrangement"]))
    if "reasons" in took:
        stages.append(Stage("reasons", None, None, took["reasons"]))
    return stages


def _of_model(
    made: MadeSlate, observed: Observation, catalog: Catalog, retrieval: _Retrieval
) -> list[Stage]:
    """The stages of the model's list."""
    model = made.plan.model
    masks = [seconds for asked, _, seconds in observed.answered if isinstance(asked, MaskAsked)]
    allowed: Mask | None = retrieval.question.request.allowed
    if model is None or allowed is None:
        return []
    space = catalog.space(model)
    shown, excluded = int(np.count_nonzero(space.shown)), 0
    for item_id in made.plan.excluded(observed.visitor):
        number = space.number(item_id)
        excluded += number is not None and number < len(allowed) and bool(allowed[number])
    passing = int(np.count_nonzero(allowed)) - excluded
    candidates = len(retrieval.found.items)
    return [
        Stage("availability", len(space), shown, 0.0),
        Stage("rules", shown, passing, masks[0] if masks else 0.0),
        Stage("retrieval", passing, candidates, retrieval.retrieval_s),
        Stage("ranking", candidates, retrieval.listed, retrieval.ranking_s),
    ]


def _hidden(catalog: Catalog, about: str) -> Fall | None:
    why = catalog.why_hidden(about)
    return Fall("availability", why, _HIDDEN[why]) if why else None


def _excluded(
    plan: SlatePlan, visitor: VisitorReading, catalog: Catalog, about: str
) -> Fall | None:
    """The fall of an item that request, rules or the visitor's past exclude."""
    request = plan.request
    if about in request.exclude:
        return Fall("rules", "excluded", "the request excludes it")
    if about in request.before:
        return Fall("rules", "earlier_page", "it is on a page before this one")

    history = visited(visitor)
    items = catalog.listed(list(dict.fromkeys([about, *history])))
    own = own_items(visitor)

    def holds(condition: Condition) -> bool:
        return bool(mask(condition, items, own)[0])

    filtered = request.condition(plan.now_ms)
    if filtered is not None and not holds(filtered):
        return Fall("rules", "filter", f"it does not meet the request's filter {request.filter}")
    for rule, condition, _ in plan.policy.in_force(plan.now_ms, request.context):
        meets = condition is None or holds(condition)
        if isinstance(rule, IncludeRule) and not meets:
            return Fall("rules", "rule", f"rule {rule.name} lets only items with {rule.filter} in")
        if isinstance(rule, ExcludeRule) and meets:
            excluded = f"items with {rule.filter}" if rule.filter else "all items"
            return Fall("rules", "rule", f"rule {rule.name} excludes {excluded}")
    for trace in plan.hidden(visitor):
        if about in trace.items:
            return Fall("rules", trace.rule, trace.note)
    wanted = plan.condition
    if about in history and (not plan.may_repeat or (wanted is not None and not holds(wanted))):
        which = Own.BOUGHT if about in own[Own.BOUGHT] else Own.SEEN
        return Fall("rules", which, _MET[which])
    if wanted is not None and not holds(wanted):  # groups are all that is left
        rules = plan.policy.policy
        of_bought = rules.bought == "hide" and rules.seen != "hide"
        which = Own.BOUGHT if of_bought else Own.SEEN
        return Fall("rules", which, _MET[which])
    return None


def _arranged_out(
    made: MadeSlate, visitor: VisitorReading, catalog: Catalog, about: str
) -> Fall | None:
    """The fall of a candidate; None for an item that was none."""
    how, ids = made.arrangement, [each.item_id for each in made.pool]
    if how is None or about not in ids:
        return None
    plan, place = made.plan, ids.index(about)
    policy = plan.policy.policy
    if policy.fatigue and (times := visitor.fruitless(plan.now_ms).get(about, 0)) >= policy.fatigue:
        return Fall(
            "arrangement", "fatigue", f"shown {times} times within a day, without a response"
        )
    if place in how.closed:
        return _limited(made, catalog, about, how.closed[place])
    for trace in made.rules:
        if trace.action == "bury" and about in trace.items:
            return Fall("arrangement", "rule", f"rule {trace.rule} makes it sink")
    return Fall("arrangement", "outranked", _rank(how, place, made))


def _limited(made: MadeSlate, catalog: Catalog, about: str, cap: str) -> Fall:
    """The fall of a candidate that a cap left no room for, or with no name its group."""
    for rule, *_ in made.plan.policy.rules:
        if isinstance(rule, CapRule) and rule.name == cap:
            limit = f"at most {rule.most} items of a list share {rule.attribute}"
            return Fall("arrangement", "cap", f"rule {cap}: {limit}")
    group, shown = made.plan.policy.policy.group_by, [item.item_id for item in made.items]
    alike = mask(
        SharedWith(group, Own.SEEN), catalog.listed([*shown, about]), {Own.SEEN: {about}}
    ).tolist()
    of_group = next((each for each, is_it in zip(shown, alike, strict=False) if is_it), None)
    other = f"{of_group} stands there" if of_group else "another item of it stands there"
    return Fall("arrangement", "group", f"of one {group} only the best item is shown: {other}")


def _rank(how: Arrangement, place: int, made: MadeSlate) -> str:
    rank, n = how.ranking.index(place) + 1, len(made.items)
    words = f"it is {ordinal(rank)} of {len(made.pool)} candidates, and the list has {n}"
    policy = made.plan.policy.policy
    shares = {name: getattr(policy, name) for name in ("diversity", "calibration", "exploration")}
    others = " and ".join(f"{name} {share:g}" for name, share in shares.items() if share)
    return f"{words}; {others} put others first" if rank <= n and others else words


def _not_listed(made: MadeSlate, retrieval: _Retrieval | None, about: str) -> Fall:
    """The fall of an item that no step gave."""
    if retrieval is None:
        lists = ", ".join(made.plan.steps)
        why = f": {made.reason}" if made.reason else ""
        return Fall(made.answered_by, "not_listed", f"no list of {lists} has it{why}")
    bundle, (_, excluded, request), found, *_ = retrieval
    number = bundle.index.get(about)
    if number is None:
        why = "the model was trained before it came, and it is too little like what this visitor"
        return Fall("new_items", "new_item", f"{why} gets")
    at = int(np.searchsorted(found.items, number))
    if at == len(found.items) or found.items[at] != number:
        best = request.limit + len(excluded)
        names = ", ".join(bundle.retrievers)
        return Fall("retrieval", "not_candidate", f"none of {names} has it among its {best} best")
    if np.isneginf(found.order[at]):
        detail = f"it is one of {len(found.items)} candidates, but not of the first {request.depth}"
    else:
        rank = 1 + int(np.count_nonzero(found.order > found.order[at]))
        first = f"the first {retrieval.listed} go on"
        detail = f"it is {ordinal(rank)} of {len(found.items)} candidates, and {first}"
    return Fall("ranking", "beyond_first", detail)
