"""Places in the log of the catalogue: positions of records that were taken in, early patches."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from slipstream.contracts.positions import CatalogPlace, StreamCatalogRecord, split_source
from slipstream.slates.catalogue.growing import GrowingArray, Rooms, as_room, from_room


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


class ItemPlaces:
    """The place of each row's record. Written by one thread, read by others."""

    def __init__(self) -> None:
        self._sources: dict[str, int] = {}
        self._names: list[str] = []
        self._arrays: dict[str, GrowingArray[Any]] = {
            "source": GrowingArray(np.int32, 0),
            "offset": GrowingArray(np.int64, 0),
            "timestamp": GrowingArray(np.int64, 0),
            "client_time": GrowingArray(np.bool_, False),
        }

    def rooms(self) -> Rooms:
        """The places in arrays."""
        arrays = {name: array.room() for name, array in self._arrays.items()}
        return {"names": as_room(self._names), **arrays}

    def restore(self, rooms: Rooms) -> None:
        """Take these places in the place of all that are here."""
        self._names = from_room(rooms["names"])
        self._sources = {name: number for number, name in enumerate(self._names)}
        self._arrays = {name: GrowingArray.restore(0, rooms[name]) for name in self._arrays}

    def put(self, row: int, place: CatalogPlace) -> None:
        """Set the place of a row."""
        source = self._sources.get(place.source)
        if source is None:
            source = self._sources[place.source] = len(self._names)
            self._names.append(place.source)
        for array, value in zip(self._arrays.values(), (source, *place[1:]), strict=True):
            array.put(row, value)

    def get(self, row: int) -> CatalogPlace:
        """The place of a row."""
        source, *rest = (array.get(row) for array in self._arrays.values())
        return CatalogPlace(self._names[source], *rest)


# Items whose patches are kept, of some hundred bytes each.
MOST_ITEMS: Final = 100_000


class EarlyPatches:
    """Patches that wait for their items' whole records, in the order of the log.

    The topic is read beside the store's snapshot, and a topic that was made anew begins with
    patches of items which only the store has. Once both were read, a patch without an item changes
    nothing, and none is kept.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, list[StreamCatalogRecord]] = {}
        self._closed = False

    def keep(self, patch: StreamCatalogRecord) -> None:
        """Keep a patch for its item; of too many items, the first one's are dropped."""
        if self._closed:
            return
        self._waiting.setdefault(patch.record.entity_id, []).append(patch)
        if len(self._waiting) > MOST_ITEMS:
            del self._waiting[next(iter(self._waiting))]

    def take(self, item_id: str) -> list[StreamCatalogRecord]:
        """The patches of an item that is known from now on."""
        return self._waiting.pop(item_id, [])

    def waiting(self) -> list[str]:
        """The items that have patches."""
        return list(self._waiting)

    def close(self) -> None:
        """Drop what waits, and keep nothing more."""
        self._closed = True
        self._waiting.clear()
