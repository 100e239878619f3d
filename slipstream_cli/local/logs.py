"""What the children print: kept in files of bounded size, with errors passed on to the terminal."""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from logging.handlers import RotatingFileHandler
from pathlib import Path

import orjson

MAX_BYTES = 5_000_000
# The same complaint is shown again only after so long.
REPEAT_S = 10.0


class Log:
    """Reads what is written to `fd` (hand it to children as their output) into a file and one older
    copy of it.

    `on_error` gets each line that a service logged as an error, shortened, repeats left out.
    Closing stops the reading.
    """

    def __init__(self, path: Path, on_error: Callable[[str], None]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._on_error = on_error
        self._shown: dict[str, float] = {}
        self._last: deque[str] = deque(maxlen=20)
        self._file = RotatingFileHandler(path, maxBytes=MAX_BYTES, backupCount=1, encoding="utf-8")
        self._read_end, self.fd = os.pipe()
        threading.Thread(target=self._read, name=f"log {path.stem}", daemon=True).start()

    def tail(self) -> list[str]:
        """The last lines, for the case that a child ended before it could log in its own way."""
        return list(self._last)

    def close(self) -> None:
        os.close(self.fd)

    def _read(self) -> None:
        with os.fdopen(self._read_end, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                text = line.rstrip("\n")
                self._last.append(text)
                self._file.emit(logging.makeLogRecord({"msg": text}))
                complaint = error_in(text)
                if (
                    complaint
                    and time.monotonic() - self._shown.get(complaint, -REPEAT_S) >= REPEAT_S
                ):
                    self._shown[complaint] = time.monotonic()
                    self._on_error(complaint)
        self._file.close()


def error_in(line: str) -> str:
    """One line's worth of an error that a service logged as JSON; empty for everything else."""
    if not line.startswith("{"):
        return ""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return ""
    if record.get("level") not in ("error", "critical"):
        return ""
    cause = str(record.get("exception") or record.get("error") or "").strip().rpartition("\n")[2]
    what = (
        str(record.get("event", "")).strip().rpartition("\n")[2]
    )  # of a traceback, the line that says what was wrong
    return ": ".join(filter(None, (what, cause)))[:300]
