"""Arrays that grow, one entry for each row of the catalogue, and a file of them.

The processes of a machine map the file and so share it. A process writes to the arrays as to its
own: the pages that it changes are copied for it alone.
"""

import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Generic, NamedTuple, Self, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

Value = TypeVar("Value", bound=np.generic)
# The first bytes of a file. Another form gets another number, and a file of another form counts as
# none.
_FORM: Final = b"slipstream rooms 1\n"
_ALIGNED: Final = 64


class Room(NamedTuple):
    """An array of which the first `size` entries are filled, and the others have the filler."""

    array: NDArray[Any]
    size: int

    @classmethod
    def full(cls, array: NDArray[Any]) -> Self:
        """An array that does not grow."""
        return cls(array, len(array))


def as_room(value: Any) -> Room:
    """A small value in an array, as JSON."""
    return Room.full(np.frombuffer(orjson.dumps(value), np.uint8))


def from_room(room: Room) -> Any:
    """The value of `as_room`."""
    return orjson.loads(room.array.tobytes())


# Arrays by name; those of a part have its name and a full stop in front.
Rooms = Mapping[str, Room]


def parts(**rooms: Rooms) -> Rooms:
    """The arrays of several parts."""
    return {f"{part}.{name}": room for part in rooms for name, room in rooms[part].items()}


def part(rooms: Rooms, name: str) -> Rooms:
    """The arrays of one of the parts."""
    begin = f"{name}."
    return {key[len(begin) :]: room for key, room in rooms.items() if key.startswith(begin)}


class GrowingArray(Generic[Value]):
    """An array of one type, with room for more entries. Written by one thread, read by others.
    `filler` is the value of an entry that was never set.
    """

    def __init__(
        self, dtype: type[Value], filler: Any, values: NDArray[Value] | None = None
    ) -> None:
        self._filler = filler
        self._size = 0 if values is None else len(values)
        self._room: NDArray[Value] = np.full(max(64, self._size * 5 // 4), filler, dtype)
        if values is not None:
            self._room[: self._size] = values
        self._values = self._room[: self._size]

    @classmethod
    def restore(cls, filler: Any, room: Room) -> Self:
        """The array of a room, which is written to."""
        restored = cls(room.array.dtype.type, filler)
        restored._room, restored._size = room
        restored._values = restored._room[: room.size]
        return restored

    def room(self) -> Room:
        """A copy of the array, with room for an eighth of new entries."""
        size = self._size
        array = np.full(size * 9 // 8 + 64, self._filler, self._room.dtype)
        array[:size] = self._room[:size]
        return Room(array, size)

    def __len__(self) -> int:
        return self._size

    @property
    def values(self) -> NDArray[Value]:
        """The entries, as a view that follows later changes. Another one when the array grows."""
        return self._values

    def put(self, at: int, value: Any) -> None:
        """Set an entry; entries between the present end and this one get the filler."""
        if at >= len(self._room) - 1:
            room = np.full(max(at + 2, 2 * len(self._room)), self._filler, self._room.dtype)
            room[: self._size] = self._room[: self._size]
            self._room = room
        self._room[at] = value
        if at >= self._size:
            self._size = at + 1
            self._values = self._room[: self._size]

    def extend(self, values: Any) -> None:
        """Append entries."""
        for value in values:
            self.put(self._size, value)

    def get(self, at: int) -> Any:
        """An entry as a Python value, the filler past the end."""
        return self._room[at].item() if at < self._size else self._filler

    def at(self, rows: NDArray[np.int32]) -> NDArray[Value]:
        """A copy of the entries of these rows; the filler for -1 and for rows past the end."""
        # Seen without a sign, -1 is the largest number, and the room's last entry is free.
        return self._room.take(rows.view(np.uint32), mode="clip")


def write_rooms(path: Path, rooms: Rooms, made_by: str) -> None:
    """Put a file of these arrays in the place of the one before, which stays mapped where it is.

    Raises OSError, and leaves the file as it was. Another file next to it is written first, by one
    process at a time. `map_rooms` returns `made_by`.
    """
    arrays, at = [], 0
    for name, (array, size) in rooms.items():
        arrays.append((name, array.dtype.str, len(array), size, at))
        at += -(-array.nbytes // _ALIGNED) * _ALIGNED
    head = orjson.dumps([made_by, at, arrays])
    part = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with part.open("wb") as file:
            file.write(_FORM + len(head).to_bytes(8, "little") + head)
            begin = _begin(len(head))
            for (array, _), (*_, at_array) in zip(rooms.values(), arrays, strict=True):
                file.seek(begin + at_array)
                file.write(np.ascontiguousarray(array).data)
            file.truncate(begin + at)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def map_rooms(path: Path) -> tuple[str, Rooms] | None:
    """Who has made the file, and its arrays; None where there is none of this form."""
    try:
        with path.open("rb") as file:
            begin = file.read(len(_FORM) + 8)
            if not begin.startswith(_FORM) or len(begin) < len(_FORM) + 8:
                return None
            length = int.from_bytes(begin[len(_FORM) :], "little")
            made_by, size, arrays = orjson.loads(file.read(length))
            # Reading a page that the file does not have would end the process.
            if os.fstat(file.fileno()).st_size < _begin(length) + size:
                return None
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError):
        return None
    return made_by, {
        name: Room(np.frombuffer(mapped, dtype, count, _begin(length) + at), filled)
        for name, dtype, count, filled, at in arrays
    }


def _begin(length: int) -> int:
    """Where the arrays begin behind a head of this length."""
    return -(-(len(_FORM) + 8 + length) // _ALIGNED) * _ALIGNED
