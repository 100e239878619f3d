"""The catalogue on disk: the online store's last snapshot, and the changes since.

A service that starts without the store and without the broker knows from it which items are gone.
One line for each record, as JSON.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import orjson
from pydantic import ValidationError

from slipstream.chassis.logging import get_logger
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.positions import StreamCatalogRecord

log = get_logger(__name__)


class CatalogJournal:
    """A file of catalogue records, for several threads. Later lines don't replace earlier ones:
    the catalogue does, by their places in the log.

    A disk that is full or gone costs the file: one that lacks changes would show what is gone.

    Args:
        path: The file. A second one beside it is written during a snapshot.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._part = path, path.with_name(f"{path.name}.part")
        self._lock, self._rewriting = threading.Lock(), threading.Lock()
        self._file: BinaryIO | None = None
        self._fresh: BinaryIO | None = None
        # Records that were appended in this process, since the last attempt to make the file anew.
        self.appended = 0

    @property
    def exists(self) -> bool:
        """Whether there was a snapshot, of a store with or without items."""
        return self._path.exists()

    def read(self) -> Iterator[StreamCatalogRecord]:
        """The records of the file, none where there is none. A torn line is left out."""
        try:
            file = self._path.open("rb")
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
                    log.warning("a line of the catalogue on disk can't be read", path=self._path)

    def rewrite(self, entries: Iterable[StreamCatalogRecord]) -> None:
        """Make these records the file: all that is known, also of what was appended before.

        What is appended meanwhile goes into both. When the records end with an error, the file
        stays as it was.
        """
        with self._rewriting:
            with self._lock:
                self._fresh = self._open(self._part, "wb")
                self.appended = 0
            try:
                for entry in entries:
                    with self._lock:
                        self._write([entry], only_fresh=True)
                with self._lock:
                    self._take_fresh()
            finally:
                with self._lock:
                    if self._fresh is not None:
                        self._fresh.close()
                        self._fresh = None

    def append(self, entries: Sequence[StreamCatalogRecord]) -> None:
        """Add records to the file; the system has them when this returns.

        Before the first snapshot there is no file.
        """
        with self._lock:
            if self._file is None and self._path.exists():
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

    def _write(self, entries: Iterable[StreamCatalogRecord], *, only_fresh: bool = False) -> None:
        files = [
            file for file in (None if only_fresh else self._file, self._fresh) if file is not None
        ]
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
                if not only_fresh:
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
        for path in (self._path, self._part):
            try:
                path.unlink(missing_ok=True)
            except OSError as kept:
                log.error("an outdated catalogue stays on disk", path=path, reason=str(kept))


def _close(file: BinaryIO) -> None:
    try:
        file.close()
    except OSError:  # it tries to write what is left
        return
