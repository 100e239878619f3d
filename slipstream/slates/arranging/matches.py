"""The number of items that rules are about, for people who write them."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from slipstream.contracts.placements import RuleMatch, RuleMatches
from slipstream.filters.conditions import ITEM_ID, Condition, OneOf, Own, depends_on_visitor
from slipstream.filters.expressions import parsed_at
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.catalogue.masks import Items, mask, unknown_attributes


class Countable(Protocol):
    """A rule by its name, its filter, and the attribute that it caps; empty for none."""

    @property
    def name(self) -> str: ...
    @property
    def filter(self) -> str: ...
    @property
    def attribute(self) -> str: ...


def matches_of(rules: Sequence[Countable], catalog: Catalog, now_ms: int) -> RuleMatches:
    """The items that rules are about at a time, whenever and wherever they count.

    Raises:
        FilterError: A rule's filter can't be read.
    """
    items = catalog.all_shown()
    return RuleMatches(items=len(items.rows), rules=[_match(rule, items, now_ms) for rule in rules])


def _match(rule: Countable, items: Items, now_ms: int) -> RuleMatch:
    remarks = []
    if rule.attribute:
        capped = OneOf(rule.attribute, frozenset())
        remarks.append(unknown_attributes(capped, items.columns))
    matches: int | None = len(items.rows)
    if rule.filter:
        condition = parsed_at(rule.filter, now_ms)
        matches = None
        if not depends_on_visitor(condition):
            matches = int(np.count_nonzero(mask(condition, items, dict.fromkeys(Own, ()))))
        remarks.append(unknown_attributes(condition, items.columns))
        remarks += _unknown_items(condition, items)
    remark = "; ".join(filter(None, dict.fromkeys(remarks)))
    return RuleMatch(rule=rule.name, matches=matches, remark=remark)


def _unknown_items(condition: Condition, items: Items) -> Iterator[str]:
    if isinstance(condition, OneOf) and condition.attribute == ITEM_ID:
        unknown = sorted(str(one) for one in condition.values if items.number(str(one)) is None)
        if unknown:
            yield f"there is no item {', '.join(unknown[:5])} that may be shown"
