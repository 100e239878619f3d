"""The places of the catalogue's records in the log, and patches that came before their items."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slipstream.contracts.positions import CatalogPlace, StreamCatalogRecord
from slipstream.slates.catalogue.growing import GrowingArray, Rooms, as_room, from_room


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

    def marks(self) -> NDArray[np.int64]:
        """A number for each row, which is another one once another record has taken its place."""
        source, offset, timestamp, _ = (array.values for array in self._arrays.values())
        size = min(map(len, (source, offset, timestamp)))
        marks: NDArray[np.int64] = (offset[:size] << 16) + source[:size]
        return marks ^ (timestamp[:size] << 8)

    def get(self, row: int) -> CatalogPlace:
        """The place of a row."""
        source, *rest = (array.get(row) for array in self._arrays.values())
        return CatalogPlace(self._names[source], *rest)


# Most items with kept patches, of some hundred bytes each.
MOST_ITEMS: Final = 100_000


class EarlyPatches:
    """Patches that wait for their items' whole records, in the order of the log.

    The topic is read in parallel to the store's snapshot, and a recreated topic begins with patches
    of items that only the store has. Once both were read, a patch without an item changes
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
