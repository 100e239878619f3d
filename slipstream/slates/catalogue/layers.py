"""Ids and texts in two layers: arrays, which may be a mapped file's, and what came since."""

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import overload

import numpy as np
from numpy.typing import NDArray

from slipstream.recommender.stored_items import StoredIds, arrays_of
from slipstream.slates.catalogue.growing import Room, Rooms


class LayeredIds(Sequence[str]):
    """The catalogue's item ids by row. Written by one thread, read by others."""

    def __init__(self) -> None:
        # Replaced together. The rows of the second layer follow those of the first.
        self._layers: tuple[StoredIds, list[str], dict[str, int]] = (
            StoredIds(arrays_of(())),
            [],
            {},
        )

    def restore(self, rooms: Rooms) -> None:
        """Take these rows, which those that are here already begin."""
        stored = StoredIds({name: room.array for name, room in rooms.items()})
        self._layers = stored, [], {}

    def rooms(self) -> Rooms:
        """All ids in arrays."""
        return {name: Room.full(array) for name, array in arrays_of(list(self)).items()}

    def __len__(self) -> int:
        stored, added, _ = self._layers
        return len(stored) + len(added)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        stored, added, _ = self._layers
        if isinstance(row, slice):
            return [self[each] for each in range(*row.indices(len(self)))]
        return stored[row] if row < len(stored) else added[row - len(stored)]

    def __iter__(self) -> Iterator[str]:
        stored, added, _ = self._layers
        yield from stored
        yield from added

    def add(self, item_id: str) -> None:
        """Append an id that is not there yet."""
        stored, added, rows = self._layers
        added.append(item_id)
        rows[item_id] = len(stored) + len(added) - 1

    def row(self, item_id: str) -> int | None:
        """The row of an id; None for one that is not there."""
        stored, _, rows = self._layers
        row = rows.get(item_id)
        return stored.find(item_id) if row is None else row

    def rows(self, item_ids: Sequence[str]) -> NDArray[np.int32]:
        """The row of each of these ids, -1 for one that is not there."""
        stored, _, rows = self._layers
        if not isinstance(item_ids, StoredIds):
            found = map(rows.get, item_ids, map(stored.numbers.get, item_ids, repeat(-1)))
            return np.fromiter(found, np.int32, len(item_ids))
        numbers = stored.numbers_of(item_ids)
        for item_id, row in list(rows.items()):
            if (number := item_ids.find(item_id)) is not None:
                numbers[number] = row
        return numbers


class LayeredTexts:
    """A text for each row. Written by one thread, read by others."""

    def __init__(self) -> None:
        self._stored = memoryview(b""), np.empty(0, np.int64).data
        self._changed: dict[int, bytes] = {}

    def restore(self, rooms: Rooms) -> None:
        """Take these texts, which those that are here agree with."""
        self._stored = rooms["texts"].array.data, rooms["ends"].array.data
        self._changed = {}

    def rooms(self, size: int) -> Rooms:
        """The texts of the first rows in arrays."""
        texts = list(map(self.get, range(size)))
        ends = np.cumsum(list(map(len, texts)), dtype=np.int64)
        joined = np.frombuffer(b"".join(texts), np.uint8)
        return {"texts": Room.full(joined), "ends": Room.full(ends)}

    def put(self, row: int, text: bytes) -> None:
        """Set the text of a row."""
        self._changed[row] = text

    def get(self, row: int) -> bytes:
        """The text of a row that has one."""
        changed = self._changed.get(row)
        if changed is not None:
            return changed
        texts, ends = self._stored
        return bytes(texts[ends[row - 1] if row else 0 : ends[row]])
