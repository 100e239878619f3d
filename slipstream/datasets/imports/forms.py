"""Forms of export files, and their rows."""

from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

DELIMITERS: Final = (",", ";", "\t", "|")
DELIMITER_NAMES: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "pipes"}

Format = Literal["csv", "json lines", "json array", "parquet", "merchant feed", "json-ld"]
# Formats that have items alone.
FEEDS: Final = ("merchant feed", "json-ld")


class Row(NamedTuple):
    """A row, with the number of its first line (1-based), or of the row itself in Parquet.

    `fault` says why the row can't be read at all; then `cells` has what there is of it.
    """

    line: int
    cells: dict[str, Any]
    fault: str = ""


@dataclass(frozen=True)
class FileForm:
    """The form of a file: its format, and of a text its encoding and delimiter.

    `columns` are in the order of the file; of JSON and feeds, those of the first rows.
    """

    format: Format
    columns: tuple[str, ...] = ()
    encoding: str = ""
    delimiter: str = ""
    # Lines before the header: Excel's `sep=;`, or empty ones.
    skipped: int = field(default=0, repr=False)
