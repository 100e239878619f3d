"""The catalogue in memory: availability and attributes of items, and items that are alike.

Filled from a snapshot in the online store and from `catalog.v1`, in any order: for each item the
newest record counts, by its place in the log.
"""

import heapq
import math
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import orjson
from numpy.typing import NDArray

from services.serving.model_holder import Model
from slipstream.contracts.positions import CatalogPlace, StreamCatalogRecord
from slipstream.contracts.times import parse_iso

# Attributes that identify an item rather than describe it.
_IDENTIFYING = frozenset(
    {"title", "name", "description", "url", "link", "image", "image_url", "sku", "id", "expires_at"}
)
_LONGEST_TERM = 64
# Most items kept for an attribute value, the latest ones, so that a look-up costs the same in a
# catalogue of any size.
_POSTINGS = 1_000
_SURPLUS = 1_000


@dataclass(slots=True)
class _Item:
    attributes: bytes
    place: CatalogPlace
    hidden: bool
    expires_at: float


class Catalog:
    """The newest state of each item. Written by one thread, read by others.

    An item that the catalogue has never heard of may be shown. `attributes["expires_at"]` (ms since
    the epoch, or an ISO 8601 time) hides an item from that moment on.
    """

    def __init__(self) -> None:
        self._items: dict[str, _Item] = {}
        self._hidden: set[str] = set()
        self._expiring: list[tuple[float, str]] = []
        self._alike: dict[str, dict[str, None]] = defaultdict(dict)
        self._masks: WeakKeyDictionary[Model, NDArray[np.bool_]] = WeakKeyDictionary()
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._items

    def apply(self, entry: StreamCatalogRecord) -> bool:
        """Take in a record about an item, and tell whether it changed something.

        Older records, and those about users, do not.
        """
        record = entry.record
        if record.entity != "item":
            return False
        with self._lock:
            known = self._items.get(record.entity_id)
            if known is not None and not entry.place.replaces(known.place):
                return False
            attributes = orjson.dumps(record.attributes)
            expires_at = _milliseconds(record.attributes.get("expires_at"))
            item = _Item(
                attributes, entry.place, record.deleted or not record.available, expires_at
            )
            if known is None or known.attributes != attributes:
                self._describe(record.entity_id, known, record.attributes)
            self._items[record.entity_id] = item
            self._show(record.entity_id, not item.hidden and expires_at > _now())
            if _will_expire(item):
                self._remember_expiry(record.entity_id, item)
        return True

    def shown(self, item_id: str) -> bool:
        """Whether the item may be shown now: not deleted, not unavailable, not expired."""
        self._expire()
        return item_id not in self._hidden

    def mask(self, model: Model) -> NDArray[np.bool_]:
        """A boolean for each item of the model's catalogue: whether it may be shown now.

        The array is kept up to date; don't write to it.
        """
        self._expire()
        mask = self._masks.get(model)
        if mask is None:
            with self._lock:
                index = model.bundle.index
                mask = np.ones(len(index), np.bool_)
                mask[[index[item_id] for item_id in self._hidden if item_id in index]] = False
                self._masks[model] = mask
        return mask

    def attributes(self, item_id: str) -> bytes | None:
        """The item's attributes as JSON; None for an item that the catalogue does not have."""
        item = self._items.get(item_id)
        return item.attributes if item is not None else None

    def look_alikes(
        self, seeds: Iterable[str], n: int, exclude: Collection[str] = ()
    ) -> list[tuple[str, float]]:
        """The `n` items that share most attribute values with the seeds, best first.

        Rare values count more.
        """
        with self._lock:
            known = {seed: self._items[seed] for seed in seeds if seed in self._items}
            votes: dict[str, float] = defaultdict(float)
            for item in known.values():
                for term in _terms(orjson.loads(item.attributes)):
                    alike = self._alike.get(term, {})
                    for item_id in alike:
                        votes[item_id] += 1 / math.log2(1 + len(alike))
        kept = (
            (item_id, vote)
            for item_id, vote in votes.items()
            if item_id not in known and item_id not in exclude
        )
        return heapq.nlargest(
            n,
            ((one, vote) for one, vote in kept if self.shown(one)),
            key=lambda pair: (pair[1], pair[0]),
        )

    def _describe(self, item_id: str, known: _Item | None, attributes: dict[str, Any]) -> None:
        for term in _terms(orjson.loads(known.attributes)) if known is not None else ():
            alike = self._alike.get(term, {})
            alike.pop(item_id, None)
            if not alike:
                self._alike.pop(term, None)
        for term in _terms(attributes):
            alike = self._alike[term]
            alike[item_id] = None
            if len(alike) > _POSTINGS:
                del alike[next(iter(alike))]

    def _show(self, item_id: str, shown: bool) -> None:
        if shown:
            self._hidden.discard(item_id)
        else:
            self._hidden.add(item_id)
        for model, mask in self._masks.items():
            place = model.bundle.index.get(item_id)
            if place is not None:
                mask[place] = shown

    def _remember_expiry(self, item_id: str, item: _Item) -> None:
        """Add an item's expiry to the heap.

        Outdated expiries stay in the heap, which is made anew when most of it is outdated.
        """
        heapq.heappush(self._expiring, (item.expires_at, item_id))
        if len(self._expiring) > 2 * len(self._items) + _SURPLUS:
            self._expiring = [
                (one.expires_at, name) for name, one in self._items.items() if _will_expire(one)
            ]
            heapq.heapify(self._expiring)

    def _expire(self) -> None:
        if not self._expiring or self._expiring[0][0] > _now():
            return
        with self._lock:
            while self._expiring and self._expiring[0][0] <= _now():
                moment, item_id = heapq.heappop(self._expiring)
                if self._items[item_id].expires_at == moment:
                    self._show(item_id, False)


def _will_expire(item: _Item) -> bool:
    return not item.hidden and _now() < item.expires_at < math.inf


def _terms(attributes: dict[str, Any]) -> Iterator[str]:
    """The descriptive terms of an item, as `attribute=value`: short strings, also within lists."""
    for name, value in attributes.items():
        if name.lower() in _IDENTIFYING:
            continue
        for one in value if isinstance(value, list) else (value,):
            if isinstance(one, str) and 0 < len(one) <= _LONGEST_TERM:
                yield f"{name}={one}"


def _milliseconds(moment: Any) -> float:
    """A time in ms; infinity for none, and for a value that is no time."""
    if isinstance(moment, int | float) and not isinstance(moment, bool):
        return float(moment)
    try:
        return parse_iso(moment)
    except (TypeError, ValueError):
        return math.inf


def _now() -> float:
    return time.time() * 1000
