"""The catalogue in memory: availability and attributes of items, and items that are alike.

Filled from a snapshot in the online store and from `catalog.v1`, in any order: for each item the
newest record counts, by its place in the log. Each item has a row, and attributes are columns over
the rows.
"""

import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import orjson
from numpy.typing import NDArray

from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.item_patches import patched
from slipstream.contracts.positions import CatalogPlace, StreamCatalogRecord
from slipstream.models.base import Mask
from slipstream.slates.catalogue.alike import votes
from slipstream.slates.catalogue.columns import Columns
from slipstream.slates.catalogue.growing import GrowingArray
from slipstream.slates.catalogue.item_space import ItemSpace
from slipstream.slates.catalogue.item_times import (
    Expiries,
    NewestItems,
    appeared_at,
    milliseconds,
    wall_clock,
)
from slipstream.slates.catalogue.log_places import AppliedPositions, EarlyPatches
from slipstream.slates.catalogue.masks import ItemMask, Items
from slipstream.slates.catalogue.model import Model

# Time for comparing new items before a model takes over; the rest comes beside requests.
_FIRST_COMPARING_S = 1.0


@dataclass(slots=True)
class _Item:
    row: int
    attributes: bytes
    place: CatalogPlace
    hidden: bool
    deleted: bool
    expires_at: float


class Catalog:
    """The newest state of each item. Written by one thread, read by others.

    An item that the catalogue has never heard of may be shown. `attributes["expires_at"]` (ms since
    the epoch, or an ISO 8601 time) hides an item from that moment on. `attributes["published_at"]`,
    in the same form, is when an item appeared, where that was before its first record.

    Args:
        clock: The time (ms) by which items expire.

    Attributes:
        columns: The items' attributes by row.
        changes: Number of records that changed something.
        changed_at: Time of the last such record, by a monotonic clock (s).
        applied: Positions of the records that were taken in.
    """

    def __init__(self, clock: Callable[[], float] = wall_clock) -> None:
        self._now = clock
        self._items: dict[str, _Item] = {}
        self._rows: dict[str, int] = {}
        self._item_ids: list[str] = []
        self.columns = Columns()
        self.changes, self.changed_at = 0, float("-inf")
        self.applied = AppliedPositions()
        self._newest = NewestItems()
        self._shown = GrowingArray(np.bool_, True)
        self._visibility = 0
        self._expiries, self._early = Expiries(), EarlyPatches()
        self._spaces: WeakKeyDictionary[Model, ItemSpace] = WeakKeyDictionary()
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
        if record.entity not in ("item", "item_patch"):
            return False
        with self._lock:
            self.applied.note(entry.source, entry.offset)
            known = self._items.get(record.entity_id)
            if record.entity == "item_patch":
                return self._patch(entry, known)
            if known is not None and not entry.place.replaces(known.place):
                if record.appeared_at is not None and not known.deleted:
                    self._newest.put_earlier(known.row, record.appeared_at)
                return False
            item = _Item(
                known.row if known is not None else len(self._item_ids),
                # A copy, since orjson's own bytes keep the 4 KiB that they were written in.
                memoryview(orjson.dumps(record.attributes)).tobytes(),
                entry.place,
                record.deleted or not record.available,
                record.deleted,
                milliseconds(record.attributes.get("expires_at")),
            )
            if not record.deleted:
                appeared = appeared_at(record)
                begins = known is None or known.deleted
                (self._newest.put if begins else self._newest.put_earlier)(item.row, appeared)
            # In an order in which readers, which take no lock, meet no row that is not there yet.
            if known is None:
                self._rows[record.entity_id] = item.row
                self._item_ids.append(record.entity_id)
            self._show(item.row, not item.hidden and item.expires_at > self._now())
            before = orjson.loads(known.attributes) if known is not None else {}
            self.columns.put(item.row, before, record.attributes)
            self._items[record.entity_id] = item
            for space in self._spaces.values():
                space.describe(item.row)
            self.changes, self.changed_at = self.changes + 1, time.monotonic()
            moment = math.inf if item.hidden else item.expires_at
            self._expiries.put(record.entity_id, moment, self._now())
            for patch in self._early.take(record.entity_id):
                self.apply(patch)
        return True

    def drop_early_patches(self) -> None:
        """Keep no patches of unknown items from now on: store and topic were read."""
        with self._lock:
            self._early.close()

    def shown(self, item_id: str) -> bool:
        """Whether the item may be shown now: not deleted, not unavailable, not expired."""
        self._expire()
        row = self._rows.get(item_id)
        return row is None or bool(self._shown.get(row))

    def visibility(self) -> int:
        """A number that changes after each change of the items that may be shown.

        Read before a list is made, it stays valid for as long as nothing was shown or hidden since.
        """
        self._expire()
        return self._visibility

    def space(self, model: Model) -> ItemSpace:
        """The item numbers of a model, made at the first call and kept up to date from then on."""
        self._expire()
        space = self._spaces.get(model)
        if space is None:
            space = ItemSpace(model.bundle, self._rows, self._item_ids)
            with self._lock:
                space.catch_up(self._shown.values)
                space = self._spaces.setdefault(model, space)
            space.compare(self._description, _FIRST_COMPARING_S)
        return space

    def compare_new_items(self, budget_s: float) -> None:
        """Compare items that a model in service does not know with those that it knows.

        `budget_s` is the time for each model; what is left waits for the next call.
        """
        with self._lock:
            spaces = list(self._spaces.values())
        for space in spaces:
            space.compare(self._description, budget_s)

    def mask(self, model: Model) -> Mask:
        """Whether each item of the model's space may be shown now.

        The array is kept up to date until the space grows; don't write to it.
        """
        return self.space(model).shown

    def of_model(self, model: Model) -> Items:
        """The items of a model's space, as filters see them."""
        space = self.space(model)
        return Items(self.columns, space.rows, space.number)

    def listed(self, item_ids: Sequence[str]) -> Items:
        """These items, as filters see them; those that are not in the catalogue have nothing."""
        rows = np.fromiter(map(self._rows.get, item_ids, repeat(-1)), np.int32, len(item_ids))
        places = dict(zip(item_ids, range(len(item_ids)), strict=True))
        return Items(self.columns, rows, places.get)

    def _description(self, item_id: str) -> Any:
        return orjson.loads(self.attributes(item_id) or b"{}")

    def attributes(self, item_id: str) -> bytes | None:
        """The item's attributes as JSON; None for an item that the catalogue does not have."""
        item = self._items.get(item_id)
        return item.attributes if item is not None else None

    def newest(self) -> Sequence[tuple[str, float]]:
        """The latest items that may be shown, with the time at which each appeared (ms).

        An item appears with its first record, and again with the first one after its deletion.
        """
        visibility = self.visibility()
        return self._newest.latest(self._item_ids, self._shown.values, visibility)

    def records(self) -> Iterator[StreamCatalogRecord]:
        """A record for each item that says what the catalogue knows of it, with its position."""
        for item_id, item in list(self._items.items()):
            yield StreamCatalogRecord(*item.place[:2], self._record(item_id, item))

    def look_alikes(
        self,
        seeds: Iterable[str],
        n: int,
        exclude: Collection[str] = (),
        passing: Callable[[Items], ItemMask] | None = None,
    ) -> list[tuple[str, float]]:
        """The items that share most attribute values with the seeds, best first.

        Rare values count more, and of values that many items have, only the latest items do.

        Args:
            seeds: Ids of items.
            n: Number of items.
            exclude: Items that are left out.
            passing: Returns which items may be among them; None lets all.
        """
        if n <= 0:
            return []
        self._expire()
        known = [self._rows[seed] for seed in seeds if seed in self._rows]
        voted, weight = votes(self.columns, known)
        if not len(voted):
            return []
        excluded = [self._rows[item_id] for item_id in exclude if item_id in self._rows]
        kept = self._shown.values[voted] & ~np.isin(voted, [*known, *excluded])
        if passing is not None:
            kept &= passing(self.listed([self._item_ids[row] for row in voted.tolist()]))
        # Rounded, and equal ones in an order that all processes have: rows come as each met them.
        rows, weight = voted[kept], weight[kept].round(12)
        return self._best(rows, weight, n)

    def _best(
        self, rows: NDArray[np.int64], weight: NDArray[np.float64], n: int
    ) -> list[tuple[str, float]]:
        """The `n` rows of most weight; of equal ones the newer item comes first, then by id."""
        order = np.lexsort((-(appeared := self._newest.times(rows)), -weight))
        if len(order) > n:
            last, after = order[n - 1], order[n:]
            tied = (weight[after] == weight[last]) & (appeared[after] == appeared[last])
            order = order[: n + np.count_nonzero(tied)]
        found = [
            (-float(weight[place]), -float(appeared[place]), self._item_ids[rows[place]])
            for place in order.tolist()
        ]
        return [(item_id, -less) for less, _, item_id in sorted(found)[:n]]

    def _show(self, row: int, shown: bool) -> None:
        changed = self._shown.get(row) != shown
        self._shown.put(row, shown)
        for space in self._spaces.values():
            space.show(row, shown)
        self._visibility += changed

    def _patch(self, entry: StreamCatalogRecord, known: _Item | None) -> bool:
        item_id = entry.record.entity_id
        if known is None:
            self._early.keep(entry)
            return False
        if not entry.place.replaces(known.place):
            return False
        whole = patched(self._record(item_id, known), entry.record)
        return whole is not None and self.apply(entry._replace(record=whole))

    def _record(self, item_id: str, item: _Item) -> CatalogRecord:
        return CatalogRecord(
            entity="item",
            entity_id=item_id,
            attributes=orjson.loads(item.attributes),
            available=not item.hidden,
            deleted=item.deleted,
            timestamp=item.place.timestamp,
            client_time=item.place.client_time,
            appeared_at=None if item.deleted else int(self._newest.appeared(item.row)),
        )

    def _expire(self) -> None:
        if not self._expiries.due(self._now()):
            return
        with self._lock:
            for item_id in self._expiries.take(self._now()):
                self._show(self._items[item_id].row, False)
