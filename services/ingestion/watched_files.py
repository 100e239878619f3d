"""Files that change while the service runs: what was read from one is replaced once the file has
changed and is right.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from slipstream.chassis.logging import get_logger

log = get_logger(__name__)

LOOK_EVERY_S = 3.0


class WatchedFile:
    """Gives a file's bytes to `take`, which raises ValueError when they are wrong: at once, and
    whenever the file has changed.

    Raises ValueError, with the file's name, when it can't be read or is wrong at the start. Later a
    wrong or missing file is logged, and what was taken last stays.
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
        """Take the file in again if it has changed since it was last looked at."""
        try:
            seen = self._look()
            if seen == self._seen:
                return
            self._seen = seen
            self._take(self._path.read_bytes())
        except (OSError, ValueError) as error:
            if self._seen:
                log.error(
                    "file not taken in; what was read before stays",
                    path=str(self._path),
                    reason=str(error),
                )
            if isinstance(error, OSError):
                self._seen = ()
            return
        log.info("file taken in", path=str(self._path))

    def _look(self) -> tuple[int, ...]:
        status = self._path.stat()
        return status.st_mtime_ns, status.st_size, status.st_ino


async def follow(files: Sequence[WatchedFile], every_s: float = LOOK_EVERY_S) -> None:
    """Refresh the files for ever, every few seconds; returns at once when there are none."""
    while files:
        await asyncio.sleep(every_s)
        for file in files:
            await asyncio.to_thread(file.refresh)
