"""Spool: an append-only log on disk for records, while the broker is unavailable.

It survives a kill at any byte. A segment is a file of frames: length and CRC-32 of the payload
(four bytes each, little-endian), then the payload, JSON. A torn frame ends the log. It was never
acknowledged to a client, and is cut off.

The file `position` holds the place up to which the broker has everything. It may lag behind, so
after a start the first records may be on their topic already.
"""

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import orjson

from slipstream.chassis.logging import get_logger

log = get_logger(__name__)

_FRAME = struct.Struct("<II")
SEGMENT_BYTES = 16 * 2**20
# Bytes of entries that are read at once, or a few more.
READ_BYTES = 4 * 2**20


class SpoolFullError(Exception):
    """Raised if the spool or the disk has no room for the records."""


class SpoolInUseError(Exception):
    """Raised if another process writes to this folder."""


class Entry(NamedTuple):
    """A record on its way to a topic.

    `attempted` means that it may have reached the broker before. `at` is when it came here, in
    milliseconds since the epoch.
    """

    topic: str
    key: str
    request_id: str
    attempted: bool
    at: int
    value: str


class SpoolPosition(NamedTuple):
    """A place in the log: number of a segment, and a byte in it."""

    segment: int
    offset: int


class Spool:
    """The log in one folder. For one thread at a time. Opening it cuts off a torn tail."""

    def __init__(self, directory: Path, max_bytes: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        """Raises `SpoolInUseError`, or OSError when the folder can't be written."""
        self._directory = directory
        self._max_bytes, self._segment_bytes = max_bytes, segment_bytes
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = (directory / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise SpoolInUseError(
                f"{directory} is the spool of another process; each replica needs its own"
            ) from error
        self._position = self._stored_position()
        segments = self._segments()
        for number in segments:
            if number < self._position.segment:
                self._path(number).unlink()
        segments = [number for number in segments if number >= self._position.segment]
        self._last = segments[-1] if segments else self._position.segment
        if not segments or self._last > self._position.segment:
            self._position = SpoolPosition(
                segments[0] if segments else self._last, self._position.offset if segments else 0
            )
        self._file = self._open_last()
        self._bytes = (
            sum(self._path(number).stat().st_size for number in self._segments())
            - self._position.offset
        )
        if self.empty:
            self.advance(self._position)  # Where it was killed before, what was sent is here still.

    @property
    def waiting_bytes(self) -> int:
        """Bytes that the broker does not have yet."""
        return self._bytes

    @property
    def empty(self) -> bool:
        return self._bytes <= 0

    def append(self, entries: Sequence[Entry]) -> None:
        """Append entries, and return when they are on disk.

        Raises `SpoolFullError` if there is no room; then nothing is written.
        """
        data = bytearray()
        for entry in entries:
            payload = orjson.dumps(tuple(entry))
            data += _FRAME.pack(len(payload), zlib.crc32(payload)) + payload
        if self._bytes + len(data) > self._max_bytes:
            raise SpoolFullError(
                f"the spool holds {self._bytes} bytes of at most {self._max_bytes}"
            )
        try:
            if self._file.tell() >= self._segment_bytes:
                self._begin_segment()
        except OSError as error:
            raise SpoolFullError(f"the spool can't be written: {error}") from error
        before = self._file.tell()
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(before)
            self._file.seek(before)
            raise SpoolFullError(f"the spool can't be written: {error}") from error
        self._bytes += len(data)

    def read(self, count: int) -> tuple[list[Entry], SpoolPosition]:
        """At most `count` of the next entries, and the position behind them, for `advance`.

        Fewer are read when they have `READ_BYTES`.
        """
        entries: list[Entry] = []
        segment, offset = self._position
        size = 0
        while True:
            path = self._path(segment)
            for payload, end in _frames(path, offset):
                entries.append(Entry(*orjson.loads(payload)))
                offset = end
                size += len(payload)
                if len(entries) == count or size >= READ_BYTES:
                    return entries, SpoolPosition(segment, offset)
            if segment >= self._last:
                return entries, SpoolPosition(segment, offset)
            if offset < path.stat().st_size:
                log.error(
                    "a part of the spool is damaged and is left out",
                    file=str(path),
                    from_byte=offset,
                )
            segment, offset = segment + 1, 0

    def advance(self, position: SpoolPosition) -> None:
        """Forget the entries before `position`, which are on their topics. Durable on return.

        Once all are there, none stays on the disk: they name visitors. Raises OSError when the
        position can't be stored; then `read` returns the same entries again.
        """
        before, left = self._position, self._bytes
        for number in range(before.segment, position.segment):
            left -= self._path(number).stat().st_size
        left += before.offset - position.offset
        if left <= 0 and position.offset:
            with suppress(OSError):  # On a full disk the segment stays until there is room.
                if self._file.tell():
                    self._begin_segment()
                position = SpoolPosition(self._last, 0)
        self._store(position)
        self._position, self._bytes = position, left
        for number in range(before.segment, position.segment):
            self._path(number).unlink(missing_ok=True)

    def close(self) -> None:
        self._file.close()
        self._lock.close()

    def _begin_segment(self) -> None:
        self._last += 1
        try:
            fresh = self._open_last()
        except OSError:
            self._last -= 1
            raise
        self._file.close()
        self._file = fresh

    def _open_last(self) -> FileIO:
        path = self._path(self._last)
        is_new = not path.exists()
        file = path.open("ab+", buffering=0)
        if is_new:
            _sync_folder(self._directory)
        else:
            start = self._position.offset if self._last == self._position.segment else 0
            whole = start
            for _, whole in _frames(path, start):  # noqa: B007
                pass
            file.truncate(whole)
            file.seek(whole)
        return file

    def _segments(self) -> list[int]:
        return sorted(int(path.stem) for path in self._directory.glob("*.spool"))

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:012}.spool"

    def _stored_position(self) -> SpoolPosition:
        try:
            segment, offset = (self._directory / "position").read_text().split()
        except FileNotFoundError:
            return SpoolPosition(0, 0)
        return SpoolPosition(int(segment), int(offset))

    def _store(self, position: SpoolPosition) -> None:
        draft = self._directory / "position.new"
        with draft.open("w") as file:
            file.write(f"{position.segment} {position.offset}\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._directory / "position")
        _sync_folder(self._directory)


def _frames(path: Path, offset: int) -> Iterator[tuple[bytes, int]]:
    """The whole payloads from `offset` on, each with the byte offset behind it."""
    with path.open("rb") as file:
        file.seek(offset)
        while len(head := file.read(_FRAME.size)) == _FRAME.size:
            length, checksum = _FRAME.unpack(head)
            payload = file.read(length)
            if len(payload) < length or zlib.crc32(payload) != checksum:
                return
            offset += _FRAME.size + length
            yield payload, offset


def _sync_folder(directory: Path) -> None:
    """Sync a folder. Without that a new file's name may not be on disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
