"""The catalogue in memory: availability and attributes of items, and items that are alike.

Filled from a snapshot in the online store and from `catalog.v1`, in any order: for each item the
newest record counts, by its place in the log. Each item has a row, and attributes are columns over
the rows.
"""

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import orjson
from numpy.typing import NDArray

from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.item_patches import patched
from slipstream.contracts.positions import StreamCatalogRecord, split_source
from slipstream.models.base import Indices, Mask
from slipstream.slates.catalogue.columns import (
    Columns,
    Expiries,
    NewestItems,
    appeared_at,
    milliseconds,
    wall_clock,
)
from slipstream.slates.catalogue.growing import GrowingArray, Rooms, as_room, from_room, part, parts
from slipstream.slates.catalogue.item_space import ItemSpace
from slipstream.slates.catalogue.layers import LayeredIds, LayeredTexts
from slipstream.slates.catalogue.masks import ItemMask, Items
from slipstream.slates.catalogue.model import Model
from slipstream.slates.catalogue.record_places import EarlyPatches, ItemPlaces


class AppliedPositions:
    """The next offset of each partition, behind the records that were taken in.

    Written by one thread at a time, read by others.
    """

    def __init__(self) -> None:
        self._ends: dict[str, int] = {}
        self._noted = 0
        self._by_topic: tuple[int, Mapping[str, Sequence[int]]] = (0, {})

    def rooms(self) -> Rooms:
        """The positions in arrays."""
        return {"ends": as_room(self._ends)}

    def restore(self, rooms: Rooms) -> None:
        """Take positions in, too."""
        for source, end in from_room(rooms["ends"]).items():
            self.note(source, end - 1)

    def note(self, source: str, offset: int) -> None:
        """Note that the record at this position was taken in; one without a source has none."""
        if source and offset >= self._ends.get(source, 0):
            self._ends[source] = offset + 1
            self._noted += 1

    def by_topic(self) -> Mapping[str, Sequence[int]]:
        """The next offset of each partition, by the topic's id; 0 where there was no record.

        The same mapping comes again until further records come; don't write to it.
        """
        noted = self._noted
        if noted != self._by_topic[0]:
            ends: dict[str, list[int]] = {}
            for source, end in list(self._ends.items()):
                topic_id, partition = split_source(source)
                of_topic = ends.setdefault(topic_id, [])
                of_topic += [0] * (partition + 1 - len(of_topic))
                of_topic[partition] = end
            # Of the number before: a record that came meanwhile makes another mapping.
            self._by_topic = noted, ends
        return self._by_topic[1]


# Time for comparing new items before a model takes over; the rest comes while requests run.
_FIRST_COMPARING_S = 1.0
# Most rows that a look-up compares, those with the rarest values first. It bounds the time of a
# look-up, whatever the attributes.
_COMPARED = 5_000


_HIDDEN: Final = 1
_DELETED: Final = 2


class Catalog:
    """The newest state of each item. Written by one thread, read by others.

    An item that the catalogue has never heard of may be shown. `attributes["expires_at"]` (ms since
    the epoch, or an ISO 8601 time) hides an item from that moment on. `attributes["published_at"]`,
    in the same form, is when an item appeared, where that was before its first record.

    Attributes:
        changes: Number of records that changed something.
        changed_at: Time of the last such record, by a monotonic clock (s).
        applied: Positions of the records that were taken in.
    """

    def __init__(self, clock: Callable[[], float] = wall_clock) -> None:
        self._now = clock
        self._item_ids, self._attributes = LayeredIds(), LayeredTexts()
        self._places, self._states = ItemPlaces(), GrowingArray(np.uint8, 0)
        self.columns = Columns()
        self.changes, self.changed_at = 0, float("-inf")
        self.applied = AppliedPositions()
        self._newest = NewestItems()
        self._shown = GrowingArray(np.bool_, True)
        self._visibility = 0
        self._expiries, self._early = Expiries(), EarlyPatches()
        self._spaces: WeakKeyDictionary[Model, ItemSpace] = WeakKeyDictionary()
        # Records come under both locks; items expire, in the event loop, under the second alone.
        self._taking, self._lock = threading.RLock(), threading.RLock()

    def __len__(self) -> int:
        return len(self._item_ids)

    def __contains__(self, item_id: str) -> bool:
        return self._item_ids.row(item_id) is not None

    def rooms(self) -> tuple[Rooms, object]:
        """The catalogue in arrays that `restore` takes, and a mark of its present state.

        Records wait meanwhile.
        """
        with self._taking:
            moments = self._expiries.moments()
            rows = [(self._item_ids.row(item_id), at) for item_id, at in moments.items()]
            rooms = parts(
                ids=self._item_ids.rooms(),
                attributes=self._attributes.rooms(len(self)),
                places=self._places.rooms(),
                columns=self.columns.rooms(),
                applied=self.applied.rooms(),
                items={
                    "states": self._states.room(),
                    "shown": self._shown.room(),
                    "appeared": self._newest.room(),
                    "expiring": as_room(rows),
                },
            )
            return rooms, self._mark()

    def restore(self, rooms: Rooms, mark: object = None) -> bool:
        """Use these arrays instead of memory of its own, and tell whether it does.

        Args:
            rooms: The arrays of another catalogue, which only an empty one takes, or of this one.
                They are written to.
            mark: For its own arrays, the mark that they came with; they are only taken while
                nothing has changed since.
        """
        with self._taking, self._lock:
            if len(self) and mark != self._mark():
                return False
            own, items = bool(len(self)), part(rooms, "items")
            # Rows stay as they are, or are new to all readers once the ids are there.
            self.columns = Columns.restore(part(rooms, "columns"))
            self._attributes.restore(part(rooms, "attributes"))
            self._places.restore(part(rooms, "places"))
            self._states = GrowingArray.restore(0, items["states"])
            self._newest.restore(items["appeared"])
            if own:
                self._item_ids.restore(part(rooms, "ids"))
                return True
            self._shown = GrowingArray.restore(True, items["shown"])
            self._item_ids.restore(part(rooms, "ids"))
            self.applied.restore(part(rooms, "applied"))
            now = self._now()
            for row, moment in from_room(items["expiring"]):
                self._expiries.put(self._item_ids[row], moment, now)
                if moment <= now:
                    self._shown.put(row, False)
            for model in list(self._spaces):
                space = self._spaces[model] = ItemSpace(model.bundle, self._item_ids)
                space.catch_up(self._shown.values)
            self.changes, self.changed_at = self.changes + 1, time.monotonic()
            self._visibility += 1
            for item_id in self._early.waiting():
                if item_id in self:
                    for patch in self._early.take(item_id):
                        self.apply(patch)
        return True

    def apply(self, entry: StreamCatalogRecord) -> bool:
        """Take in a record about an item, and tell whether it changed something.

        Older records, and those about users, do not.
        """
        record = entry.record
        if record.entity not in ("item", "item_patch"):
            return False
        item_id = record.entity_id
        with self._taking, self._lock:
            self.applied.note(entry.source, entry.offset)
            known = self._item_ids.row(item_id)
            if record.entity == "item_patch":
                return self._patch(entry, known)
            deleted = known is not None and bool(self._states.get(known) & _DELETED)
            if known is not None and not entry.place.replaces(self._places.get(known)):
                if record.appeared_at is not None and not deleted:
                    self._newest.put_earlier(known, record.appeared_at)
                return False
            row = known if known is not None else len(self._item_ids)
            hidden = record.deleted or not record.available
            expires_at = milliseconds(record.attributes.get("expires_at"))
            before = orjson.loads(self._attributes.get(row)) if known is not None else {}
            if not record.deleted:
                begins = known is None or deleted
                put = self._newest.put if begins else self._newest.put_earlier
                put(row, appeared_at(record))
            # A copy, since orjson's own bytes keep the 4 KiB that they were written in.
            self._attributes.put(row, memoryview(orjson.dumps(record.attributes)).tobytes())
            self._places.put(row, entry.place)
            self._states.put(row, hidden * _HIDDEN + record.deleted * _DELETED)
            # In an order in which readers, which take no lock, meet no row that is not there yet.
            if known is None:
                self._item_ids.add(item_id)
            self._show(row, not hidden and expires_at > self._now())
            self.columns.put(row, before, record.attributes)
            for space in self._spaces.values():
                space.describe(row)
            self.changes, self.changed_at = self.changes + 1, time.monotonic()
            moment = math.inf if hidden else expires_at
            self._expiries.put(item_id, moment, self._now())
            for patch in self._early.take(item_id):
                self.apply(patch)
        return True

    def drop_early_patches(self) -> None:
        """Keep no patches of unknown items from now on: store and topic were read."""
        with self._lock:
            self._early.close()

    def shown(self, item_id: str) -> bool:
        """Whether the item may be shown now: not deleted, not unavailable, not expired."""
        self._expire()
        row = self._item_ids.row(item_id)
        return row is None or bool(self._shown.get(row))

    def why_hidden(self, item_id: str) -> str:
        """Why an item may not be shown: `deleted`, `unavailable`, `expired`; empty where it may."""
        row = self._item_ids.row(item_id)
        if row is None or self.shown(item_id):
            return ""
        state = self._states.get(row)
        if state & _DELETED:
            return "deleted"
        return "unavailable" if state & _HIDDEN else "expired"

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
            space = ItemSpace(model.bundle, self._item_ids)
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
        rows = self._item_ids.rows(item_ids)
        places = dict(zip(item_ids, range(len(item_ids)), strict=True))
        return Items(self.columns, rows, places.get)

    def all_shown(self) -> Items:
        """All items of the catalogue that may be shown now, as filters see them."""
        self._expire()
        rows = np.flatnonzero(self._shown.values[: len(self)]).astype(np.int32)

        def place(item_id: str) -> int | None:
            row = self._item_ids.row(item_id)
            at = len(rows) if row is None else int(np.searchsorted(rows, row))
            return at if at < len(rows) and rows[at] == row else None

        return Items(self.columns, rows, place)

    def numbered(self, model: Model, numbers: Indices, others: Sequence[str]) -> Items:
        """Items that a model knows, by number, each once, then the others that are not among them.

        As `listed` gives them for the same ids, without a look-up for each of the model's.
        """
        find = model.bundle.index.get
        places = dict(zip(numbers.tolist(), range(len(numbers)), strict=True))
        further = [each for each in dict.fromkeys(others) if find(each) not in places]
        rest = dict(zip(further, range(len(numbers), len(numbers) + len(further)), strict=True))

        def place(item_id: str) -> int | None:
            found = places.get(find(item_id))
            return rest.get(item_id) if found is None else found

        rows = np.concatenate((self.space(model).rows[numbers], self._item_ids.rows(further)))
        return Items(self.columns, rows, place)

    def _description(self, item_id: str) -> Any:
        return orjson.loads(self.attributes(item_id) or b"{}")

    def attributes(self, item_id: str) -> bytes | None:
        """The item's attributes as JSON; None for an item that the catalogue does not have."""
        row = self._item_ids.row(item_id)
        return self._attributes.get(row) if row is not None else None

    def marks(self) -> NDArray[np.int64]:
        """A number for each row, which is another one once another record has taken its place."""
        return self._places.marks()[: len(self)]

    def item_id(self, row: int) -> str:
        """The id of a row."""
        return self._item_ids[row]

    def newest(self) -> Sequence[tuple[str, float]]:
        """The latest items that may be shown, with the time at which each appeared (ms).

        An item appears with its first record, and again with the first one after its deletion.
        """
        visibility = self.visibility()
        return self._newest.latest(self._item_ids, self._shown.values, visibility)

    def records(self) -> Iterator[StreamCatalogRecord]:
        """A record for each item that says what the catalogue knows of it, with its position."""
        for row in range(len(self)):
            yield StreamCatalogRecord(*self._places.get(row)[:2], self._record(row))

    def look_alikes(
        self,
        seeds: Iterable[str],
        n: int,
        exclude: Collection[str] = (),
        passing: Callable[[Items], ItemMask] | None = None,
    ) -> list[tuple[str, float]]:
        """The items that share most attribute values with the seeds, best first.

        Rare values count more, and of values that many items have, only the latest items do.
        `passing` tells which items may be among them; None lets all.
        """
        if n <= 0:
            return []
        self._expire()
        known = [row for seed in seeds if (row := self._item_ids.row(seed)) is not None]
        voted, weight = _votes(self.columns, known)
        if not len(voted):
            return []
        excluded = self._item_ids.rows([*exclude])
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

    def _patch(self, entry: StreamCatalogRecord, known: int | None) -> bool:
        if known is None:
            self._early.keep(entry)
            return False
        if not entry.place.replaces(self._places.get(known)):
            return False
        whole = patched(self._record(known), entry.record)
        return whole is not None and self.apply(entry._replace(record=whole))

    def _record(self, row: int) -> CatalogRecord:
        state, place = self._states.get(row), self._places.get(row)
        deleted = bool(state & _DELETED)
        return CatalogRecord(
            entity="item",
            entity_id=self._item_ids[row],
            attributes=orjson.loads(self._attributes.get(row)),
            available=not state & _HIDDEN,
            deleted=deleted,
            timestamp=place.timestamp,
            client_time=place.client_time,
            appeared_at=None if deleted else int(self._newest.appeared(row)),
        )

    def _mark(self) -> object:
        return self.changes, self._newest.changes

    def _expire(self) -> None:
        if not self._expiries.due(self._now()):
            return
        with self._lock:
            for item_id in self._expiries.take(self._now()):
                if (row := self._item_ids.row(item_id)) is not None:
                    self._show(row, False)


def _votes(columns: Columns, rows: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """The rows that share values with some rows, and how much they share.

    Rare values count more, and of values that many rows have, only the latest rows do. Rows are
    ascending, the given ones among them, with the weight of the values that each shares.
    """
    shared = Counter(term for row in rows for term in columns.terms(row))
    voters: list[NDArray[np.int64]] = []
    weights: list[float] = []
    room = _COMPARED
    for alike, seeded in sorted(
        ((vocabulary.rows(code), count) for (vocabulary, code), count in shared.items()),
        key=lambda entry: len(entry[0]),
    ):
        latest = alike[-room:] if room else []
        voters.append(np.array(latest, np.int64))
        weights.append(seeded / math.log2(2 + len(alike)))
        room -= len(latest)
    if not voters:
        return np.empty(0, np.int64), np.empty(0)
    voted, where = np.unique(np.concatenate(voters), return_inverse=True)
    return voted, np.bincount(where, np.repeat(weights, [len(each) for each in voters]))
