"""The file of rejected rows: each with its line, the reason, and its cells, for whoever repairs."""

import csv
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TextIO

import orjson

from slipstream.datasets.imports.conversion import Rejection

HEADER: Final = ("file", "line", "code", "field", "reason", "row")
_MOST_CHARACTERS: Final = 10_000


class RejectedRows:
    """Writes rejected rows as CSV; the file is made with the first, so that none means none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._file: TextIO | None = None

    def add(self, name: str, rejection: Rejection) -> None:
        """Write a row of the file of this name."""
        if self._file is None:
            # Spreadsheets know UTF-8 by its mark.
            self._file = self.path.open("w", encoding="utf-8-sig", newline="", errors="replace")
            csv.writer(self._file).writerow(HEADER)
        cells = {key: _printable(value) for key, value in rejection.cells.items()}
        row = orjson.dumps(cells, default=str).decode()[:_MOST_CHARACTERS]
        csv.writer(self._file).writerow(
            (name, rejection.line, rejection.code, rejection.field, rejection.reason, row)
        )
        self.count += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()


def _printable(value: object) -> object:
    """A text without bytes that its encoding does not have: JSON has none."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return value
