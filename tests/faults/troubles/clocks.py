"""Clocks that are about a day wrong for a while, of one replica of features and one of ingestion.

libfaketime (Debian: libfaketime) changes what a process takes for the time. It reads the difference
from a file, which may change while the process runs.
"""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tests.e2e.stack import Stack
from tests.faults.bed import Bed
from tests.faults.client import Client
from tests.faults.replicas import Launch
from tests.faults.trouble import Trouble

LIBRARIES: Final = "*/faketime/libfaketimeMT.so.1"
WRONG: Final = ("features 2", "ingestion 2", "serving 2")
WRONG_S: Final = 20.0
# An event is up to half a minute old, and ingestion rejects one that is 24 hours old by its clock.
OFFSETS: Final = {"23 hours ahead": f"+{23 * 3_600}", "a day behind": "-86400"}
RIGHT: Final = "+0"


class Clocks(Trouble):
    """The clocks of some replicas move 23 hours forward and back, and a day back and forward."""

    strikes = tuple(OFFSETS)

    def lacking(self) -> str:
        return "" if _library() else "no libfaketime; Debian, Ubuntu: apt-get install libfaketime"

    def surround(self, stack: Stack, opened: ExitStack) -> Mapping[str, Launch]:
        self._file = stack.directory / "clock"
        self._file.write_text(RIGHT)
        environment = {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            # What waits for some seconds does not look at the clock on the wall.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        return {name: Launch(environment) for name in WRONG}

    def strike(self, name: str, bed: Bed, client: Client) -> None:
        self._file.write_text(OFFSETS[name])
        try:
            time.sleep(WRONG_S)
        finally:
            self._file.write_text(RIGHT)


def _library() -> Path | None:
    return next(Path("/usr/lib").glob(LIBRARIES), None)
