"""Checks of the catalogue: figures in, findings out."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from slipstream.contracts.vocabulary import is_identifying
from slipstream.filters.conditions import ITEM_ID, Condition
from slipstream.filters.evaluation import Values, holds, values_of
from slipstream_cli.doctor.catalogue_figures import AttributeFigures, CatalogueFigures
from slipstream_cli.doctor.event_figures import EventFigures
from slipstream_cli.doctor.findings import Finding, Weight, counted, share, some

# Items from which on an attribute's values say something.
_ENOUGH: Final = 20
_NEARLY_ALL: Final = 0.95
_MANY: Final = 0.5
_SOME: Final = 0.05
# Attributes by which new items borrow, and visitors have an affinity.
_KINDS: Final = ("category", "categories", "brand")
# Alike in most shops, which does no harm.
_ALIKE_IN_A_SHOP: Final = frozenset({"available", "currency"})


class RuleFilter(NamedTuple):
    """The filter of a placement's rule that does not depend on the visitor."""

    placement: str
    rule: str
    text: str
    condition: Condition


def check_catalogue(figures: CatalogueFigures, events: EventFigures) -> Iterator[Finding]:
    """Judge the catalogue beside the events."""
    if not figures.sampled:
        yield Finding(
            "no_catalogue",
            Weight.WARNING,
            "the catalogue is empty",
            "lists have ids without titles and prices, filters match nothing, and new items are"
            " never shown",
            "slipstream import PRODUCTS, or POST /v1/items of ingestion (docs/events.md)",
        )
        return
    yield from _lacking(figures)
    yield from _unseen(figures, events)
    yield from _unavailable(figures)
    yield from _attributes(figures)


def check_rules(
    rules: Sequence[RuleFilter], items: Mapping[str, Mapping[str, Any]], whole: bool
) -> Iterator[Finding]:
    """Find rules of placements that are about no item.

    Args:
        rules: Filters of rules that are switched on.
        items: Attributes by item.
        whole: Whether these are all items.
    """
    idle = [rule for rule in rules if not _matches(rule.condition, items)]
    if idle and items:
        named = some(f"{rule.rule} of {rule.placement} ({rule.text})" for rule in idle)
        yield Finding(
            "idle_rules",
            Weight.WARNING,
            f"{len(idle)} of {len(rules)} rules of placements match none of {len(items):,} items:"
            f" {named}",
            "the rule does nothing; an include rule of this kind leaves a list empty"
            + ("" if whole else "; the catalogue has further items, which were not looked at"),
            "slipstream placements show NAME; what a filter may say: docs/filters.md",
        )


def _matches(condition: Condition, items: Mapping[str, Mapping[str, Any]]) -> bool:
    return any(_holds(condition, item_id, attributes) for item_id, attributes in items.items())


def _holds(condition: Condition, item_id: str, attributes: Mapping[str, Any]) -> bool:
    def values(name: str) -> Values:
        return {item_id} if name == ITEM_ID else values_of(attributes, name)

    return holds(condition, values, lambda _name, _own: set())


def _lacking(figures: CatalogueFigures) -> Iterator[Finding]:
    if figures.lacking:
        heavy = len(figures.lacking) > _SOME * figures.event_items
        yield Finding(
            "items_without_entry",
            Weight.WARNING if heavy else Weight.NOTE,
            f"{share(len(figures.lacking), figures.event_items, 'items of the events')} are not in"
            f" the catalogue, with {figures.lacking_events:,} events: {some(figures.lacking)}",
            "they are recommended without title and price, and no filter or rule reaches them",
            "slipstream import PRODUCTS; where ids differ between files (as SKU and product id),"
            " map the column that both share: --map THEIRS=item_id",
        )


def _unseen(figures: CatalogueFigures, events: EventFigures) -> Iterator[Finding]:
    if figures.unseen > _MANY * figures.sampled and events.sampled:
        all_of_them = figures.unseen == figures.sampled
        yield Finding(
            "items_never_seen",
            Weight.WARNING if all_of_them else Weight.NOTE,
            f"{share(figures.unseen, figures.sampled, 'items of the catalogue')} are in none of"
            f" {events.among}",
            "ids of catalogue and events don't fit together"
            if all_of_them
            else "they are shown only where they are like items that are seen",
            "slipstream import --map THEIRS=item_id"
            if all_of_them
            else "docs/new-items.md; exploration of placements (docs/placements.md)",
        )


def _unavailable(figures: CatalogueFigures) -> Iterator[Finding]:
    if figures.unavailable > _MANY * figures.sampled:
        yield Finding(
            "items_unavailable",
            Weight.WARNING,
            f"{share(figures.unavailable, figures.sampled, 'items of the catalogue')} are not"
            " available",
            "none of them is ever recommended",
            "send them with available: true (docs/events.md#items), or map the column that says so",
        )


def _attributes(figures: CatalogueFigures) -> Iterator[Finding]:
    if figures.sampled < _ENOUGH:
        return
    free = {
        name: attribute
        for name, attribute in figures.attributes.items()
        if not is_identifying(name)
    }
    if not any(free[name].filled for name in _KINDS if name in free):
        yield Finding(
            "no_categories",
            Weight.WARNING,
            f"none of {figures.sampled:,} items has a category, categories or a brand",
            "new items can't borrow from those they are like, and visitors have no affinity",
            "docs/events.md#items; map a column: slipstream import --map THEIRS=categories",
        )
    kinds = (
        ("empty_attributes", "without a value", "filters and rules by them match nothing",
         [name for name, it in free.items() if not it.filled]),
        ("uniform_attributes", "with one value for all items", "they tell no item from another",
         [name for name, it in free.items() if _is_uniform(it) and name not in _ALIKE_IN_A_SHOP]),
        ("unshared_attributes", "with another value for each item",
         "no two items are alike by them, so that new items borrow nothing",
         [name for name, it in free.items() if _is_unshared(it)]),
    )  # fmt: skip
    for check, figure, why, names in kinds:
        if names:
            yield Finding(
                check,
                Weight.NOTE,
                f"{counted(len(names), 'attribute')} {figure}: {some(names)}",
                why,
                "send other values, or leave them out: slipstream import --map THEIRS=",
            )


def _is_uniform(attribute: AttributeFigures) -> bool:
    return attribute.filled >= _ENOUGH and len(attribute.uses) == 1


def _is_unshared(attribute: AttributeFigures) -> bool:
    """Whether nearly every item has a text of its own; numbers rightly differ."""
    return (
        attribute.texts >= _ENOUGH
        and attribute.texts > _NEARLY_ALL * attribute.filled
        and sum(uses == 1 for uses in attribute.uses.values()) > _NEARLY_ALL * attribute.filled
    )
