"""Checks of the catalogue in Redis against the items of the events, and of the rules' filters."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from slipstream.chassis.settings import RedisSettings
from slipstream.contracts.events import CatalogRecord
from slipstream.filters.conditions import ITEM_ID, Condition, depends_on_visitor
from slipstream.filters.evaluation import Values, holds, values_of
from slipstream.filters.expressions import FilterError, parsed
from slipstream.stores.online import OnlineReader, OnlineStore
from slipstream_cli.doctor.events import EventFigures
from slipstream_cli.doctor.findings import Finding, Limits, Weight, share, some

# Items of the events, those with most events first, that are looked for in the catalogue.
_LOOKED_FOR: Final = 2_000
# Rules of placements that are looked at.
_MOST_RULES: Final = 100
_SOME: Final = 0.05


class RuleFilter(NamedTuple):
    """The filter of a placement's rule that does not depend on the visitor."""

    placement: str
    rule: str
    text: str
    condition: Condition


@dataclass(slots=True)
class CatalogueFigures:
    """Figures of a sample of the catalogue, compared with the items of the events.

    Attributes:
        items: Attributes of the sampled items, by item.
        whole: Whether the sample is the whole catalogue.
        event_items: Items of the events that were looked for in the catalogue, and were not
            deleted from it.
        lacking: Those that it never had.
        lacking_events: Events that are about these.
    """

    items: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    whole: bool = True
    event_items: int = 0
    lacking: list[str] = field(default_factory=list)
    lacking_events: int = 0


def read_catalogue(
    settings: RedisSettings, namespace: str, events: EventFigures, limits: Limits
) -> CatalogueFigures:
    """Read the catalogue's items, and look the events' items up in it.

    Args:
        settings: Redis.
        namespace: The namespace of the stack.
        events: Figures of the newest events.
        limits: The most items and seconds.

    Raises:
        StoreUnavailableError: Redis does not answer.
    """
    figures = CatalogueFigures()
    store, until = OnlineStore(settings, namespace), time.monotonic() + limits.seconds
    try:
        for entry in store.catalog_items():
            if len(figures.items) >= limits.items or time.monotonic() > until:
                figures.whole = False
                break
            if not entry.record.deleted:
                figures.items[entry.record.entity_id] = entry.record.attributes
    finally:
        store.close()
    wanted = [item_id for item_id, _ in events.items.most_common(_LOOKED_FOR)]
    found = asyncio.run(_records(settings, namespace, wanted))
    figures.event_items = sum(record is None or not record.deleted for record in found)
    figures.lacking = [
        item_id for item_id, record in zip(wanted, found, strict=True) if record is None
    ]
    figures.lacking_events = sum(events.items[item_id] for item_id in figures.lacking)
    return figures


async def _records(
    settings: RedisSettings, namespace: str, item_ids: Sequence[str]
) -> list[CatalogRecord | None]:
    reader = OnlineReader(settings, namespace)
    try:
        return await reader.catalog(item_ids)
    finally:
        await reader.aclose()


def rule_filters(placements: Sequence[Mapping[str, Any]]) -> list[RuleFilter]:
    """Return the filters of rules that are switched on and alike for all visitors.

    Args:
        placements: Placements as monitoring answers them. Up to 100 rules are taken.
    """
    found = []
    for placement in placements:
        for rule in placement["policy"]["rules"]:
            text = rule.get("filter", "")
            if not (text and rule.get("enabled", True)):
                continue
            try:
                condition = parsed(text)
            except FilterError:
                continue  # of a newer version
            if not depends_on_visitor(condition):
                found.append(RuleFilter(placement["name"], rule["name"], text, condition))
    return found[:_MOST_RULES]


def check_catalogue(figures: CatalogueFigures) -> Iterator[Finding]:
    """Compare the catalogue with the events."""
    if not figures.items:
        yield Finding(
            "no_catalogue",
            Weight.WARNING,
            "the catalogue is empty",
            "lists have ids without titles and prices, filters match nothing, and new items are"
            " never shown",
            "slipstream import PRODUCTS, or POST /v1/items of ingestion (docs/events.md)",
        )
    elif figures.lacking:
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
            f"{len(idle)} of {len(rules)} placement rules match none of {len(items):,} items:"
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
