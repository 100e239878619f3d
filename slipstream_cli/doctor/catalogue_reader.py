"""Reader of the catalogue in Redis, within limits, beside the items of the events."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from slipstream.chassis.settings import RedisSettings
from slipstream.contracts.events import CatalogRecord
from slipstream.stores.online import OnlineReader, OnlineStore
from slipstream_cli.doctor.catalogue_figures import CatalogueFigures
from slipstream_cli.doctor.event_figures import EventFigures
from slipstream_cli.doctor.limits import Limits

# Items of the events, those with most events first, that are looked for in the catalogue.
_LOOKED_FOR = 2_000


def read_catalogue(
    settings: RedisSettings, namespace: str, events: EventFigures, limits: Limits
) -> tuple[CatalogueFigures, Mapping[str, Mapping[str, Any]]]:
    """Count the catalogue's items, and look the events' items up in it.

    Args:
        settings: Redis.
        namespace: The namespace of the stack.
        events: Figures of the newest events.
        limits: The most items and seconds.

    Returns:
        figures: The figures.
        items: The attributes of the sampled items, by item.

    Raises:
        StoreUnavailableError: Redis does not answer.
    """
    figures, items = CatalogueFigures(), dict[str, Mapping[str, Any]]()
    store, until = OnlineStore(settings, namespace), time.monotonic() + limits.seconds
    try:
        for entry in store.catalog_items():
            record = entry.record
            if figures.sampled >= limits.items or time.monotonic() > until:
                figures.whole = False
                break
            if not record.deleted:
                available = record.available is not False
                figures.count(record.entity_id, record.attributes, available, events.items)
                items[record.entity_id] = record.attributes
    finally:
        store.close()
    wanted = [item_id for item_id, _ in events.items.most_common(_LOOKED_FOR)]
    unknown = [item_id for item_id in wanted if item_id not in items]
    if unknown and not figures.whole:
        found = asyncio.run(_records(settings, namespace, unknown))
        unknown = [
            item_id
            for item_id, record in zip(unknown, found, strict=True)
            if record is None or record.deleted
        ]
    figures.event_items, figures.lacking = len(wanted), unknown
    figures.lacking_events = sum(events.items[item_id] for item_id in unknown)
    return figures, items


async def _records(
    settings: RedisSettings, namespace: str, item_ids: Sequence[str]
) -> list[CatalogRecord | None]:
    reader = OnlineReader(settings, namespace)
    try:
        return await reader.catalog(item_ids)
    finally:
        await reader.aclose()
