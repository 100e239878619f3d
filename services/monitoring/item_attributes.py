"""The catalogue's attributes that readings of slates need, followed on `catalog.v1` in memory.

Of a large catalogue only a share of the items is kept, chosen by a hash of their ids, so that
readings are of the same items in every window.
"""

import threading
import zlib
from collections.abc import Callable, Iterable
from itertools import islice
from sys import intern
from typing import Any, Final, NamedTuple, TypeGuard

from slipstream.broker.consumer import Consumer
from slipstream.broker.loop import consume
from slipstream.broker.records import Batch
from slipstream.broker.watch import ConsumerWatch
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.item_patches import PATCHED_ENTITY, merge_patch

# About 250 bytes each.
MOST_ITEMS: Final = 200_000
# Names of an item that are kept, and characters of each: others are left out.
_MOST_NAMES: Final = 20
_LONGEST_NAME: Final = 100
# The attributes that are read, as docs/catalogue.md calls them.
_READ: Final[tuple[str, ...]] = ("categories", "category", "brand", "price")


def place_of(text: str) -> float:
    """The place of an id among all ids, from 0 to below 1, by CRC-32: the same everywhere."""
    return zlib.crc32(text.encode()) / 2**32


class ItemAttributes(NamedTuple):
    """Attributes of an item that is in the catalogue."""

    categories: tuple[str, ...]
    brand: str
    price: float | None
    available: bool

    @classmethod
    def of(cls, attributes: dict[str, Any], *, available: bool) -> "ItemAttributes":
        """Those of a record; what has another type than docs/catalogue.md says is left out."""
        several = attributes.get("categories", attributes.get("category"))
        names = several if isinstance(several, list) else [several]
        brand, price = attributes.get("brand"), attributes.get("price")
        return cls(
            tuple(map(intern, islice(filter(_is_name, names), _MOST_NAMES))),
            intern(brand) if _is_name(brand) else "",
            float(price) if isinstance(price, int | float) else None,
            available,
        )

    def patched(self, patch: CatalogRecord) -> "ItemAttributes":
        own = {"categories": list(self.categories), "brand": self.brand, "price": self.price}
        read = {name: patch.attributes[name] for name in _READ if name in patch.attributes}
        if "category" in read:  # one of the two names, as `of` takes them
            own.pop("categories")
        available = self.available if patch.available is None else patch.available
        return self.of(merge_patch(own, read), available=available)


def _is_name(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME


class ItemCatalogue:
    """The attributes of items by id. One thread takes records, any may read.

    Attributes:
        caught_up: Whether the topic was read to the end that it had at the start.
    """

    def __init__(self, most: int = MOST_ITEMS) -> None:
        self._most, self._share = most, 1.0
        # None for an item that was deleted.
        self._items: dict[str, ItemAttributes | None] = {}
        self.caught_up = False

    def take(self, records: Iterable[CatalogRecord]) -> None:
        """Take records in the order of the topic."""
        for record in records:
            if not self.watches(record.entity_id):
                continue
            entity = PATCHED_ENTITY.get(record.entity, record.entity)
            if entity != "item":
                continue
            known = self._items.get(record.entity_id)
            if record.deleted:
                self._items[record.entity_id] = None
            elif record.entity == "item":
                self._items[record.entity_id] = ItemAttributes.of(
                    record.attributes, available=record.available is not False
                )
            elif known is not None:
                self._items[record.entity_id] = known.patched(record)
        while len(self._items) > self._most:
            share = self._share / 2
            kept = {name: it for name, it in self._items.items() if place_of(name) < share}
            self._share, self._items = share, kept

    def watches(self, item_id: str) -> bool:
        """Whether an item is among those that are kept, if the catalogue has it."""
        return self._share == 1.0 or place_of(item_id) < self._share

    def get(self, item_id: str) -> ItemAttributes | None:
        """The attributes of an item; None if it is not in the catalogue."""
        return self._items.get(item_id)

    def size(self) -> int | None:
        """The number of available items, estimated in a large catalogue; None while it is read."""
        if not self.caught_up:
            return None
        # A copy, since the thread that takes records may add some meanwhile.
        available = sum(it is not None and it.available for it in list(self._items.values()))
        return round(available / self._share)

    def seen(self) -> int:
        """The number of items that the topic ever had, deleted ones as well."""
        return round(len(self._items) / self._share)


def catalogue_target(
    catalogue: ItemCatalogue, consumer: Callable[[], Consumer], watch: ConsumerWatch
) -> Callable[[threading.Event], None]:
    """A worker target that follows `catalog.v1` from its beginning until stopped."""

    def take(batch: Batch) -> None:
        catalogue.take(message.record for message in batch.messages)

    def caught_up() -> None:
        catalogue.caught_up = True

    def run(stop: threading.Event) -> None:
        consume(consumer(), take, stop, watch, at_end=caught_up)

    return run
