"""The ranking of a caller's items: by the steps, then by filter, boosts and a placement's rules."""

from collections.abc import Collection, Generator, Mapping, Sequence
from functools import partial
from itertools import compress
from time import perf_counter
from typing import Any, Final

import numpy as np
import orjson

from slipstream.contracts.events import SlateItems
from slipstream.filters.conditions import attributes_of
from slipstream.recommender import stages
from slipstream.slates.arranging.arrangement import Arrangement
from slipstream.slates.catalogue.borrowing import in_known_items
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.catalogue.columns import MOST_COLUMNS, Columns
from slipstream.slates.catalogue.masks import Items, mask, unknown_attributes
from slipstream.slates.model_steps import FAILED, Found, Steps, by_model
from slipstream.slates.slate_plan import (
    Asked,
    DemandAsked,
    MadeSlate,
    Making,
    SlatePlan,
    WorkAsked,
    arranged,
    visited,
)
from slipstream.slates.slate_request import Item, Step, VisitorReading, why_not_model

# Given features that nothing asks for are named up to this number.
_NAMED: Final = 5
# Items from which a list is arranged in a thread, since the event loop would stand still for long.
MANY: Final = 200


class GivenItems:
    """Items as filters and rules see them, for one request.

    A feature that the caller gives counts instead of the catalogue's attribute of its name. Names
    of None are all attributes. `columns` go by row.
    """

    def __init__(
        self,
        catalog: Catalog,
        features: Mapping[str, Mapping[str, Any]],
        item_ids: Sequence[str],
        names: Collection[str] | None,
    ) -> None:
        # Room for those of the catalogue and as many more.
        self.columns = Columns(2 * MOST_COLUMNS)
        self._rows = dict(zip(item_ids, range(len(item_ids)), strict=True))
        for item_id, row in self._rows.items():
            attributes = orjson.loads(catalog.attributes(item_id) or b"{}")
            attributes |= features.get(item_id, {})
            if names is not None:
                attributes = {name: attributes[name] for name in names if name in attributes}
            self.columns.put(row, {}, attributes)

    def listed(self, item_ids: Sequence[str]) -> Items:
        """These items, as filters see them. Raises `KeyError` for one that is not among them."""
        rows = np.array([self._rows[item_id] for item_id in item_ids], np.int32)
        places = dict(zip(item_ids, range(len(item_ids)), strict=True))
        return Items(self.columns, rows, places.get)


def ranking(plan: SlatePlan, visitor: VisitorReading, catalog: Catalog) -> Making:
    """The given items, each once, best first, without those that filter or rules leave out.

    Those that neither model nor demand knows stand last, with score 0: in the given order, as far
    as boosts do not move them.
    """
    given = list(dict.fromkeys(plan.request.given or ()))
    made = MadeSlate(plan)
    steps = Steps(made, visitor, catalog)
    made.answered_by, found = yield from _ordered(steps, made, visitor, catalog, given)
    placed = {item.item_id for item in found.items}
    # Boosts multiply: the scores of unknown items are all the same, and not 0.
    rest = [Item(item_id, 1.0, Step.NONE) for item_id in given if item_id not in placed]
    made.items = [*found.items, *rest]
    made.tiers = [0] * len(found.items) + [1] * len(rest)
    made.model_version = found.version
    made.remarks += [found.reason, "" if found.items else "none of the items is known"]
    arrange = partial(_arrange, made, visitor, catalog)
    how = (yield WorkAsked(arrange)) if len(given) > MANY else arrange()
    items = made.items if how is None else [made.items[place] for place in how.order]
    if left_out := len(given) - len(items):
        made.remarks.append(f"{left_out} items are left out by the filter or the rules")
    made.items = SlateItems(
        Item(each.item_id, 0.0 if each.source is Step.NONE else each.score, each.source)
        for each in items
    )
    if how is not None:
        made.rules, made.touched = how.traces, how.touched
    return made


def _ordered(
    steps: Steps,
    made: MadeSlate,
    visitor: VisitorReading,
    catalog: Catalog,
    item_ids: Sequence[str],
) -> Generator[Asked, Any, tuple[Step, Found]]:
    """Those of the given items that a step knows, best first, and the step.

    The model orders them for a history that it knows, else demand does.
    """
    model = made.plan.model
    history = in_known_items(visitor.history, model, catalog)
    try:
        reason = why_not_model(model, history, visitor.problem)
        if not reason and model is not None:
            began = perf_counter()
            try:
                result = by_model(model, stages.rank_items(model.bundle, history, item_ids))
            finally:
                steps.took(Step.MODEL, began)
            return (Step.MODEL if result.items else Step.NONE), result
    except Exception as error:
        made.failures.append((Step.MODEL, error))
        reason = FAILED[Step.MODEL]
    began = perf_counter()
    entries, _ = yield DemandAsked(Step.TRENDING, model, "")
    demand = dict(entries)
    known = sorted(filter(demand.__contains__, item_ids), key=lambda each: -demand[each])
    steps.took(Step.TRENDING, began)
    items = [Item(item_id, demand[item_id], Step.TRENDING) for item_id in known]
    return (Step.TRENDING if items else Step.NONE), Found(items, reason)


def _arrange(made: MadeSlate, visitor: VisitorReading, catalog: Catalog) -> Arrangement | None:
    """Leave out what does not pass, and arrange the rest; None for the order as it is."""
    plan, features = made.plan, made.plan.request.features
    names, filtered = plan.policy.attributes(), plan.request.condition(plan.now_ms)
    if names is not None and filtered is not None:
        names |= attributes_of(filtered)
    made.remarks.append(_unused(features, names))

    ids = [item.item_id for item in made.items]
    both = list(dict.fromkeys([*ids, *(event.item_id for event in visitor.history)]))
    source: Catalog | GivenItems = catalog
    if features:
        source = GivenItems(catalog, features, both, names)
        plan = plan.about(source.columns)
    wanted = plan.wanted(visitor)
    if wanted is not None:
        condition, own = wanted
        passing = mask(condition, source.listed(both), own)[: len(ids)].tolist()
        made.items = list(compress(made.items, passing))
        made.tiers = list(compress(made.tiers, passing))
        made.remarks.append(unknown_attributes(condition, source.columns))
    if plan.is_plain:
        return None
    left = [*(each.item_id for each in made.items), *visited(visitor)]
    about = source.listed(list(dict.fromkeys(left)))
    return arranged(plan, visitor, about, made.items, made.tiers)


def _unused(features: Mapping[str, Mapping[str, Any]], names: Collection[str] | None) -> str:
    """A remark on features that nothing asks for; empty where there are none."""
    given = set[str]().union(*features.values())
    unused = sorted(given.difference(names)) if names is not None else []
    if not unused:
        return ""
    return f"no filter, boost or rule asks for the given {', '.join(unused[:_NAMED])}"
