"""Files that are read again when they change while the service runs."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from slipstream.chassis.logging import get_logger

log = get_logger(__name__)

LOOK_EVERY_S = 3.0


class WatchedFile:
    """A file whose bytes go to `take`, at once and whenever the file has changed.

    `take` raises ValueError for wrong bytes. At the start that, or an unreadable file, raises
    ValueError with the file's name. Later it is logged, and the last good content stays.
    """

    def __init__(self, path: str | Path, take: Callable[[bytes], None]) -> None:
        self._path, self._take = Path(path), take
        self._seen: tuple[int, ...] = ()
        try:
            self._seen = self._look()
            take(self._path.read_bytes())
        except (OSError, ValueError) as error:
            raise ValueError(f"{self._path}: {error}") from error

    def refresh(self) -> None:
        """Read the file again if it has changed since the last look."""
        try:
            seen = self._look()
            if seen == self._seen:
                return
            self._seen = seen
            self._take(self._path.read_bytes())
        except (OSError, ValueError) as error:
            if self._seen:
                log.error(
                    "file not read again; its last good content stays",
                    path=str(self._path),
                    reason=str(error),
                )
            if isinstance(error, OSError):
                self._seen = ()
            return
        log.info("file read again", path=str(self._path))

    def _look(self) -> tuple[int, ...]:
        status = self._path.stat()
        return status.st_mtime_ns, status.st_size, status.st_ino


async def follow(files: Sequence[WatchedFile], every_s: float = LOOK_EVERY_S) -> None:
    """Refresh the files every `every_s` seconds, for ever. Returns at once if there are none."""
    while files:
        await asyncio.sleep(every_s)
        for file in files:
            await asyncio.to_thread(file.refresh)
