"""A file of arrays, which the processes of a machine map and so share.

A process writes to the arrays as to its own: the pages that it changes are copied for it alone.
"""

import mmap
import os
from pathlib import Path
from typing import Final

import numpy as np
import orjson

from slipstream.slates.catalogue.growing import Room, Rooms

# The first bytes. Another form gets another number, and a file of another form counts as none.
_FORM: Final = b"slipstream rooms 1\n"
_ALIGNED: Final = 64


def write(path: Path, rooms: Rooms, made_by: str) -> None:
    """Put a file of these arrays in the place of the one before, which stays mapped where it is.

    Raises OSError, and leaves the file as it was.

    Args:
        path: The file. Another one next to it is written first, by one process at a time.
        rooms: The arrays.
        made_by: Who makes it, which `read` returns.
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


def read(path: Path) -> tuple[str, Rooms] | None:
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
