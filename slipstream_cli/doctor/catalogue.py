"""Figures of the catalogue in Redis and of the items of the events; checks of rules' filters."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from slipstream.chassis.settings import RedisSettings
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.times import now_ms
from slipstream.evaluation.data_checks import CatalogueFigures, EventFigures
from slipstream.evaluation.findings import Finding, Weight, some
from slipstream.filters.conditions import ITEM_ID, Condition, depends_on_visitor
from slipstream.filters.evaluation import Values, holds, values_of
from slipstream.filters.expressions import FilterError, parsed_at
from slipstream.stores.online import OnlineReader, OnlineStore
from slipstream_cli.doctor.findings import Limits

# Items of the events, those with most events first, that are looked for in the catalogue.
_LOOKED_FOR: Final = 2_000
# Rules of placements that are looked at.
_MOST_RULES: Final = 100


class RuleFilter(NamedTuple):
    """The filter of a placement's rule that does not depend on the visitor."""

    placement: str
    rule: str
    text: str
    condition: Condition


def read_catalogue(
    settings: RedisSettings, namespace: str, events: EventFigures, limits: Limits
) -> CatalogueFigures:
    """Read the catalogue's items, and look the events' items up in it.

    Args:
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
                condition = parsed_at(text, now_ms())
            except FilterError:
                continue  # of a newer version
            if not depends_on_visitor(condition):
                found.append(RuleFilter(placement["name"], rule["name"], text, condition))
    return found[:_MOST_RULES]


def check_rules(
    rules: Sequence[RuleFilter], items: Mapping[str, Mapping[str, Any]], whole: bool
) -> Iterator[Finding]:
    """Find rules of placements that are about no item.

    Args:
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
