"""The catalogue on disk: arrays that the processes of a replica map, and the changes since.

A service that starts without the store and without the broker knows from it which items are gone.
Changes are lines of JSON, one for each record.
"""

import fcntl
import os
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import orjson
from pydantic import ValidationError

from slipstream.chassis.logging import get_logger
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.positions import StreamCatalogRecord
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.catalogue.growing import map_rooms, write_rooms

log = get_logger(__name__)


# The start of a service: the processes that one has forked share what that one has imported.
RUN: Final = uuid.uuid4().hex
# Time between two attempts to be the one that reads the store.
_PAUSE_S: Final = 0.1


class CatalogJournal:
    """The files of a catalogue, for several threads and processes. Later lines don't replace
    earlier ones: the catalogue does, by their places in the log.

    A disk that is full or gone costs the files: those that lack changes would show what is gone.

    Args:
        path: The files, without their suffixes.
        appends: Whether this process keeps the changes, which one does for all.
        run: The start of the service that this process belongs to.
    """

    def __init__(self, path: Path, *, appends: bool = True, run: str = RUN) -> None:
        self._items = path.with_name(f"{path.name}.items")
        self._path = path.with_name(f"{path.name}.changes.jsonl")
        self._part = path.with_name(f"{self._path.name}.part")
        self._turns = path.with_name(f"{path.name}.lock")
        self._appends, self._run = appends, run
        self._lock, self._rewriting = threading.Lock(), threading.Lock()
        self._file: BinaryIO | None = None
        self._fresh: BinaryIO | None = None
        # Records that were appended in this process, since the last attempt to make a new file.
        self.appended = 0

    @contextmanager
    def turn(self, stop: threading.Event | None = None) -> Iterator[bool]:
        """Wait until no other process makes these files, or `stop` is set; None does not wait.

        Gives whether it is this one's turn. Without a disk, there is no wait.
        """
        try:
            self._turns.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._turns, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            yield True
            return
        try:
            while not (mine := _locked(lock)) and stop is not None and not stop.wait(_PAUSE_S):
                pass
            yield mine
        finally:
            os.close(lock)

    def load(self, catalog: Catalog, *, of_this_run: bool = False) -> bool:
        """Take the files into a catalogue, and tell whether there were any.

        An empty catalogue maps its items, and another one takes in their records. `of_this_run`
        leaves out files that were made before this service was started.
        """
        found = map_rooms(self._items)
        if found is None or (of_this_run and found[0] != self._run):
            return False
        if not catalog.restore(found[1]):
            kept = Catalog()
            kept.restore(found[1])
            for entry in kept.records():
                catalog.apply(entry)
        for entry in read(self._path):
            catalog.apply(entry)
        return True

    def rewrite(self, catalog: Catalog) -> None:
        """Make files of all that a catalogue knows, which from then on maps its items from there.

        What is appended meanwhile goes into the old changes and the new ones.
        """
        with self._rewriting:
            with self._lock:
                self._fresh = self._open(self._part, "wb") if self._appends else None
                self.appended = 0
            try:
                rooms, mark = catalog.rooms()
                write_rooms(self._items, rooms, self._run)
            except OSError as error:
                with self._lock:
                    self._give_up(error)
                return
            with self._lock:
                self._take_fresh()
            del rooms
            if (made := map_rooms(self._items)) is not None and made[0] == self._run:
                catalog.restore(made[1], mark)

    def append(self, entries: Sequence[StreamCatalogRecord]) -> None:
        """Add records to the file; the system has them when this returns.

        Before the first snapshot there is no file.
        """
        if not self._appends:
            return
        with self._lock:
            if self._file is None and self._items.exists():
                self._file = self._open(self._path, "ab")
                if self._file is not None:
                    self._file.write(b"\n")  # the last line may be torn
            self._write(entries)
            self.appended += len(entries)

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _write(self, entries: Iterable[StreamCatalogRecord]) -> None:
        files = [file for file in (self._file, self._fresh) if file is not None]
        if not files:
            return
        lines = b"".join(
            orjson.dumps(
                [entry.source, entry.offset, orjson.Fragment(entry.record.model_dump_json())]
            )
            + b"\n"
            for entry in entries
        )
        try:
            for file in files:
                file.write(lines)
                file.flush()
        except OSError as error:
            self._give_up(error)

    def _take_fresh(self) -> None:
        if self._fresh is None:
            return
        try:
            self._fresh.flush()
            self._part.replace(self._path)
        except OSError as error:
            self._give_up(error)
            return
        if self._file is not None:
            self._file.close()
        self._file, self._fresh = self._fresh, None

    def _open(self, path: Path, mode: str) -> BinaryIO | None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file: BinaryIO = path.open(mode)  # type: ignore[assignment]
        except OSError as error:
            self._give_up(error)
            return None
        return file

    def _give_up(self, error: OSError) -> None:
        log.warning("the catalogue is not kept on disk", path=self._path, reason=str(error))
        for file in (self._file, self._fresh):
            if file is not None:
                _close(file)
        self._file = self._fresh = None
        for path in (self._items, self._path, self._part) if self._appends else ():
            try:
                path.unlink(missing_ok=True)
            except OSError as kept:
                log.error("an outdated catalogue stays on disk", path=path, reason=str(kept))


def read(path: Path) -> Iterator[StreamCatalogRecord]:
    """The records of a file of lines, none where there is none. A torn line is left out."""
    try:
        file = path.open("rb")
    except OSError:
        return
    with file:
        for line in file:
            if line == b"\n":
                continue
            try:
                source, offset, record = orjson.loads(line)
                yield StreamCatalogRecord(source, offset, CatalogRecord.model_validate(record))
            except (ValueError, TypeError, ValidationError):
                log.warning("a line of the catalogue on disk can't be read", path=path)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # A disk without locks lets each read for itself.
        return not isinstance(error, BlockingIOError)
    return True


def _close(file: BinaryIO) -> None:
    try:
        file.close()
    except OSError:  # it tries to write what is left
        return
