"""Log files of child processes, of bounded size; errors are also shown on the terminal."""

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
# Least time between two showings of the same error.
REPEAT_S = 10.0


class Log:
    """A rotated log file, written by a thread that reads the other end of the pipe `fd`.

    Children get `fd` as their output. `on_error` gets each line that a service logged as an error,
    shortened, without repeats. Closing ends the thread.
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
        """Return the last lines, also those that are no JSON."""
        return list(self._last)

    def close(self) -> None:
        os.close(self.fd)

    def _read(self) -> None:
        with os.fdopen(self._read_end, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                text = line.rstrip("\n")
                self._last.append(text)
                self._file.emit(logging.makeLogRecord({"msg": text}))
                message = error_in(text)
                if message and time.monotonic() - self._shown.get(message, -REPEAT_S) >= REPEAT_S:
                    self._shown[message] = time.monotonic()
                    self._on_error(message)
        self._file.close()


def error_in(line: str) -> str:
    """Shorten a service's JSON log line to its error; empty where it logs none."""
    if not line.startswith("{"):
        return ""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return ""
    if record.get("level") not in ("error", "critical"):
        return ""
    cause = str(record.get("exception") or record.get("error") or "").strip().rpartition("\n")[2]
    # The last line of a traceback names the error.
    event = str(record.get("event", "")).strip().rpartition("\n")[2]
    return ": ".join(filter(None, (event, cause)))[:300]
