"""The making of one slate: the steps fill it, one after the other, and rules arrange it."""

from collections.abc import Generator, Sequence
from time import perf_counter
from typing import Any, Final

from slipstream.contracts.events import SlateItems
from slipstream.contracts.placements import ExcludeRule, IncludeRule
from slipstream.filters.conditions import All, Constant
from slipstream.recommender import stages
from slipstream.recommender.stages import RankedList
from slipstream.slates.arranging.arrangement import Arrangement
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.catalogue.masks import Filter, unknown_attributes, values_instead
from slipstream.slates.catalogue.model import Model
from slipstream.slates.list_steps import Wanted, unproven
from slipstream.slates.model_steps import Steps
from slipstream.slates.slate_plan import (
    Asked,
    Candidate,
    MadeSlate,
    Making,
    SlatePlan,
    arranged,
    own_items,
    visited,
)
from slipstream.slates.slate_request import Item, Step, VisitorReading

# Most items that the model does not know among the candidates of a slate that explores.
UNPROVEN: Final = 50
# The steps that look for a pin which no item of the catalogue and the model meets.
_BY_DEMAND: Final = (Step.TRENDING,)


def slate(
    plan: SlatePlan,
    visitor: VisitorReading,
    catalog: Catalog,
    kept: Sequence[Candidate] | None = None,
) -> Making:
    """The slate of a plan. `kept` is the model's list that was made before; None has it made."""
    made = MadeSlate(plan)
    steps = Steps(made, visitor, catalog, kept)
    # Exclusions, and the filters of request and placement. Each step applies availability itself.
    wanted = Wanted(plan.depth, plan.excluded(visitor), plan.wanted(visitor))
    if plan.is_plain:
        for tier, step in enumerate(plan.steps):
            yield from _fill(steps, made, tier, step, wanted, plan.request.n)
            if len(made.items) >= plan.request.n:
                break
    else:
        yield from _fill_and_arrange(steps, made, visitor, catalog, wanted)
    if wanted.filter is not None:
        if not made.items and (condition := plan.request.condition(plan.now_ms)) is not None:
            filter_ = wanted.filter._replace(condition=condition)
            if not (yield from steps.may_have(Wanted(1, set(), filter_))):
                made.remarks.insert(0, values_instead(condition, catalog.columns))
                made.remarks.insert(0, "no item that may be shown meets the filter")
        made.remarks.insert(0, unknown_attributes(wanted.filter.condition, catalog.columns))
    if plan.request.explain:
        in_force = plan.policy.in_force(plan.now_ms, plan.request.context)
        for trace, (rule, condition, _) in zip(made.rules, in_force, strict=True):
            if isinstance(rule, IncludeRule | ExcludeRule):
                about = Filter(condition or Constant(holds=True), own_items(visitor))
                trace.matched = yield from steps.matched(about)
        made.rules = [*made.rules, *plan.hidden(visitor)]
    made.items = _shown(made.items)
    return made


def kept_slate(plan: SlatePlan, listed: Sequence[Candidate]) -> MadeSlate | None:
    """The slate that is a list of the model as it stands; None where more is to be done for it."""
    if not plan.is_plain or len(listed) < plan.request.n or plan.steps[0] is not Step.MODEL:
        return None
    version = plan.model.version if plan.model is not None else None
    return MadeSlate(plan, _shown(listed), answered_by=Step.MODEL, model_version=version)


def _shown(items: Sequence[Candidate]) -> SlateItems:
    if isinstance(items, SlateItems):
        return items
    return SlateItems(Item(each.item_id, each.score, each.source) for each in items)


def _fill(
    steps: Steps, made: MadeSlate, tier: int, step: Step, wanted: Wanted, n: int
) -> Generator[Asked, Any, bool]:
    """Let a step fill what the ones before it left open; whether it had items. Each item comes
    once; those of later steps have score 0. `wanted` is the request to the first step, with the
    most items of all steps.
    """
    if made.items:
        rest = wanted.n - len(made.items)
        if rest <= 0:  # as many as were requested, and the rules leave too few of them
            if step is Step.SIMILAR:
                return False  # what it knows is among the model's candidates
            rest = wanted.n
        taken = wanted.exclude | {item.item_id for item in made.items}
        found = yield from steps.found(step, Wanted(rest, taken, wanted.filter))
    else:
        found = yield from steps.found(step, wanted)
    made.failed |= found.failed
    if found.reason:
        made.remarks.append(found.reason)
    if not found.items:
        return False
    if made.items:
        had = len(made.items)
        present = f"{made.answered_by} had {had} of {n} items"
        if had >= n:
            present = f"rules leave under {n} of the {made.answered_by}'s {had} items"
        made.remarks.append(f"{present}; {len(found.items)} more are {step}")
        later = (Item(item.item_id, 0.0, item.source) for item in found.items)
        made.items = [*made.items, *later]
    else:
        made.answered_by, made.model_version = step, found.version
        made.items = found.items
    made.tiers += [tier] * len(found.items)
    return True


def _fill_and_arrange(
    steps: Steps, made: MadeSlate, visitor: VisitorReading, catalog: Catalog, wanted: Wanted
) -> Generator[Asked, Any, None]:
    """Fill a pool until it can be arranged to a whole slate, and arrange it.

    Where no candidate meets a pin, the steps look for one that does.
    """
    plan, how = made.plan, None
    n = plan.request.n
    for tier, step in enumerate(plan.steps):
        if (yield from _fill(steps, made, tier, step, wanted, n)):
            how = _arranged(made, visitor, catalog)
            if len(how.order) >= n:
                break
    if plan.explores:
        # They explore in places of the first step, behind its own items, since they have score 0.
        taken = wanted.exclude.union(item.item_id for item in made.items)
        new = unproven(catalog, plan.model, taken, wanted.filter, UNPROVEN)
        made.items = [*made.items, *new]
        made.tiers += [0] * len(new)
        how = None
    if how is None:
        how = _arranged(made, visitor, catalog)
    if how.needs:
        found, own = list[Candidate](), own_items(visitor)
        for need in how.needs:
            condition = need.condition
            if wanted.filter is not None:
                condition = All((wanted.filter.condition, condition))
            taken = wanted.exclude.union(item.item_id for item in found)
            for_pin = Wanted(1, taken, Filter(condition, own))
            # Demand alone may know items that neither the catalogue nor the model has.
            may_have = yield from steps.may_have(for_pin)
            pinned = MadeSlate(plan)
            for tier, step in enumerate(plan.steps if may_have else _BY_DEMAND):
                if (yield from _fill(steps, pinned, tier, step, for_pin, 1)):
                    break
            found += [Item(item.item_id, 0.0, item.source) for item in pinned.items]
            made.failed |= pinned.failed
            if made.answered_by is Step.NONE:
                made.answered_by, made.model_version = pinned.answered_by, pinned.model_version
        if found:
            # No candidate meets these pins, but the mask of a filter may be a second older.
            candidates = {item.item_id for item in made.items}
            found = [item for item in found if item.item_id not in candidates]
            # After all others, so that they stand nowhere but where they are pinned.
            made.items = [*made.items, *found]
            made.tiers += [len(plan.steps)] * len(found)
            how = _arranged(made, visitor, catalog)
    made.pool = listed = made.items
    made.arrangement = how
    made.items = (
        listed.taken(how.order)
        if isinstance(listed, RankedList)
        else [listed[place] for place in how.order]
    )
    made.touched = how.touched
    if plan.request.explain:
        made.rules = how.traces
    if plan.explores or plan.samples:
        made.propensities = how.propensities
    if how.frame is not None:
        made.frame = how.frame.of_ids(lambda place: listed[place].item_id)


def _arranged(made: MadeSlate, visitor: VisitorReading, catalog: Catalog) -> Arrangement:
    """The arrangement of a slate's candidates so far."""
    began, plan, candidates = perf_counter(), made.plan, made.items
    past = visited(visitor) if plan.policy.looks_back else []
    if plan.model is not None and isinstance(candidates, RankedList):
        known = catalog.numbered(plan.model, candidates.items, past)
    else:
        both = [*(each.item_id for each in candidates), *past]
        known = catalog.listed(list(dict.fromkeys(both)))
    how = arranged(plan, visitor, known, candidates, made.tiers)
    made.took.append(("arrangement", began, perf_counter() - began))
    return how


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
