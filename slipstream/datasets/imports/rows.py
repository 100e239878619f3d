"""Rows of export files: CSV with any delimiter, JSON, Parquet, and product feeds.

JSON has an object a line, or an array.
"""

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import IO, Any, Final

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from slipstream.datasets.imports.nested import find_lines, taken_apart
from slipstream.datasets.imports.product_feeds import is_xml, read_feed
from slipstream.datasets.imports.sources import (
    DELIMITERS,
    ExportFile,
    FileForm,
    Format,
    ImportFileError,
    Row,
    find_encoding,
    has_bad_bytes,
    lines,
)

# What Magento's REST says of its list of `items`.
_OF_PAGES: Final = frozenset({"search_criteria", "total_count"})
# A JSON array is held whole, unlike JSON lines.
_MOST_ARRAY_BYTES: Final = 64 * 1024 * 1024


def json_row(number: int, line: str) -> Row:
    """The row of a line of JSON."""
    if has_bad_bytes(line):
        return Row(number, {"line": line}, "has bytes that are not UTF-8")
    try:
        value = orjson.loads(line.rstrip().rstrip(",") if line.endswith(",\n") else line)
    except orjson.JSONDecodeError as error:
        return Row(number, {"line": line.strip()[:1_000]}, f"is not JSON: {error}")
    if not isinstance(value, dict):
        return Row(number, {"line": line.strip()[:1_000]}, "is not a JSON object")
    return Row(number, _flat(value))


def _flat(value: dict[str, Any]) -> dict[str, Any]:
    """An object with its properties merged into its own fields, for Segment's calls."""
    properties = value.get("properties")
    if not isinstance(properties, dict):
        return value
    return {**properties, **{name: v for name, v in value.items() if name != "properties"}}


def array_rows(text: Iterator[str], name: str) -> Iterator[Row]:
    """The rows of a JSON array, or of the one list in an object, such as `{"orders": […]}`.

    Raises:
        ImportFileError: It is no JSON, or too large.
    """
    whole = _whole(text, name)
    if isinstance(whole, dict):
        whole = _only_list(whole) or [whole]
    for number, entry in enumerate(whole, start=1):
        if isinstance(entry, dict):
            yield Row(number, _flat(entry))
        else:
            yield Row(number, {"entry": entry}, "is not a JSON object")


def _only_list(value: dict[str, Any]) -> list[Any] | None:
    """The list of objects of an object that has one and nothing else; else None."""
    first, *others = [part for name, part in value.items() if name not in _OF_PAGES] or [None]
    is_list = isinstance(first, list) and all(isinstance(entry, dict) for entry in first)
    return first if is_list and not others else None


def _is_one_value(beginning: list[str]) -> bool:
    """Whether lines of JSON are one value, and not an object each."""
    try:
        first = orjson.loads(beginning[0])
    except orjson.JSONDecodeError:
        return len(beginning) > 1 and beginning[0].strip() == "{"
    return len(beginning) == 1 and isinstance(first, dict) and bool(_only_list(first))


def _whole(text: Iterator[str], name: str) -> Any:
    """The value of a text that is JSON as a whole."""
    parts, size = [], 0
    for line in text:
        size += len(line)
        if size > _MOST_ARRAY_BYTES:
            raise ImportFileError(
                f"{name}: is one JSON value of over {_MOST_ARRAY_BYTES >> 20} MB; write an object"
                " a line instead (jq -c '.[]')"
            )
        parts.append(line)
    try:
        return orjson.loads("".join(parts))
    except (orjson.JSONDecodeError, UnicodeError) as error:
        raise ImportFileError(f"{name}: is not JSON: {error}") from error


_SAMPLE_LINES: Final = 50
_SNIFFED_BYTES: Final = 1_024
_BATCH_ROWS: Final = 5_000
_MOST_COLUMNS: Final = 1_000


def find_form(file: ExportFile, encoding: str = "", delimiter: str = "") -> FileForm:
    """The form of a file, from its content. Encoding and delimiter are those that somebody named.

    Raises:
        ImportFileError: It is empty, or none of the known formats.
    """
    if file.is_parquet():
        with file.opened() as stream:
            schema = _parquet(stream, file.name).schema_arrow
        form = FileForm("parquet", tuple(schema.names))
        return _named(file, form) if any(map(pa.types.is_nested, schema.types)) else form
    with file.unpacked() as stream:
        if is_xml(stream.read(_SNIFFED_BYTES)):  # which says itself what encoding it has
            return _named(file, FileForm("merchant feed", encoding=encoding))
    encoding = encoding or find_encoding(file)
    with file.unpacked() as stream:
        beginning = list(islice(lines(stream, encoding, file.name), _SAMPLE_LINES))
    first = next((line.strip() for line in beginning if line.strip()), "")
    if not first:
        raise ImportFileError(f"{file.name}: the file is empty")
    if any("\0" in line for line in beginning):
        raise ImportFileError(f"{file.name}: is neither a text file nor Parquet")
    if first.startswith(("{", "[")):
        texts = [line for line in beginning if line.strip()]
        is_whole = first.startswith("[") or _is_one_value(texts)
        format_: Format = "json array" if is_whole else "json lines"
        return _named(file, FileForm(format_, encoding=encoding))
    return _csv_form(beginning, file.name, encoding, delimiter)


def _named(file: ExportFile, form: FileForm) -> FileForm:
    """The form with the columns of the first rows, and the list of lines that they have."""
    seen = [row for row in islice(_read(file, form), _SAMPLE_LINES * 20) if not row.fault]
    if form.format != "merchant feed":
        form = replace(form, lines=find_lines(seen))
        seen = list(chain.from_iterable(taken_apart(row, form.lines) for row in seen))
    names = dict.fromkeys(chain(form.columns, *(row.cells for row in seen)))
    names.pop(form.lines, None)
    if not names:
        raise ImportFileError(f"{file.name}: the first lines are no JSON objects")
    return replace(form, columns=tuple(names)[:_MOST_COLUMNS])


def _csv_form(beginning: list[str], name: str, encoding: str, delimiter: str) -> FileForm:
    skipped = next(number for number, line in enumerate(beginning) if line.strip())
    if named := re.fullmatch(r"sep=(.)\s*", beginning[skipped]):
        delimiter, skipped = delimiter or named[1], skipped + 1
        while skipped < len(beginning) and not beginning[skipped].strip():
            skipped += 1
    beginning = beginning[skipped:]
    if not beginning:
        raise ImportFileError(f"{name}: the file is empty")
    delimiter = delimiter or find_delimiter(beginning)
    header = [cell.strip() for cell in next(csv.reader(beginning, delimiter=delimiter))]
    while header and not header[-1]:
        header.pop()
    if len(header) > _MOST_COLUMNS:
        raise ImportFileError(f"{name}: the first line has over {_MOST_COLUMNS:,} columns")
    if twice := {column for column in header if column and header.count(column) > 1}:
        raise ImportFileError(f"{name}: two columns are called {', '.join(sorted(twice))}")
    if not all(header) or any(re.fullmatch(r"[\d.,:/ -]+", column) for column in header):
        raise ImportFileError(
            f"{name}: the first line has no column names: {', '.join(header)[:200]}; add them"
        )
    return FileForm("csv", tuple(header), encoding, delimiter, skipped)


def find_delimiter(beginning: Sequence[str]) -> str:
    """The delimiter with which the first lines have the most equal numbers of cells.

    The header decides between equals: names have no commas, and values of `EUR 12,90` do.
    """

    def merit(delimiter: str) -> tuple[float, int]:
        try:
            rows = [row for row in csv.reader(beginning, delimiter=delimiter) if row]
        except csv.Error:
            return 0, 0
        width = len(rows[0])
        alike = sum(len(row) == width for row in rows[:-1] or rows) / max(len(rows) - 1, 1)
        return (min(alike, 1.0) if width > 1 else 0.0), width

    return max(DELIMITERS, key=merit)


def read_rows(file: ExportFile, form: FileForm) -> Iterator[Row]:
    """The rows of a file in their order, of which few are held at once.

    An order with a list of lines is a row for each line.

    Raises:
        ImportFileError: The file can't be read on.
    """
    rows = _read(file, form)
    if form.format in ("csv", "merchant feed"):
        yield from rows
    else:
        yield from chain.from_iterable(taken_apart(row, form.lines) for row in rows)


def _read(file: ExportFile, form: FileForm) -> Iterator[Row]:
    """The rows as the file has them."""
    if form.format == "parquet":
        yield from _parquet_rows(file)
        return
    with file.unpacked() as stream:
        if form.format == "merchant feed":
            yield from read_feed(stream, file.name, form.encoding)
            return
        text = lines(stream, form.encoding, file.name)
        if form.format == "csv":
            yield from _csv_rows(text, form)
        elif form.format == "json lines":
            for number, line in enumerate(text, start=1):
                if line.strip():
                    yield json_row(number, line)
        else:
            yield from array_rows(text, file.name)


class _Lines:
    """Lines on their way to a CSV reader, which knows a record's lines only when it has them."""

    def __init__(self, text: Iterator[str]) -> None:
        self._text = text
        self._again: deque[str] = deque()
        self.number = 0
        self.record: list[str] = []

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._text)
        self.number += 1
        self.record.append(line)
        return line

    def give_back(self) -> None:
        """Let all but the first line of the record be read again, each as a record of its own."""
        self._again.extendleft(reversed(self.record[1:]))
        self.number -= len(self.record) - 1


def _csv_rows(text: Iterator[str], form: FileForm) -> Iterator[Row]:
    source = _Lines(text)
    reader = csv.reader(source, delimiter=form.delimiter, strict=True)
    names, width = form.columns, len(form.columns)
    for _ in range(form.skipped):
        next(source)
    header = True
    while True:
        first, source.record = source.number + 1, []
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error:  # also a cell of over 128 KB
            values = []
        if header:
            header = False
            continue
        if len(values) != width and (len(source.record) > 1 or not values):
            # A stray quote must cost its row, and not all rows up to the next quote.
            if source.record[0].strip():
                line = {"line": source.record[0].strip()}
                yield Row(first, line, "has a quote that does not close, or in a wrong place")
            source.give_back()
            continue
        if not any(values):
            continue
        while len(values) > width and not values[-1].strip():
            values.pop()
        cells = dict(zip(names, values, strict=False))
        if len(values) != width:
            more = values[width:]
            cells |= {f"cell {width + number}": v for number, v in enumerate(more, start=1)}
            yield Row(first, cells, f"has {len(values)} cells, the header has {width}")
        elif any(map(has_bad_bytes, values)):
            yield Row(first, cells, f"has bytes that are not {form.encoding}")
        else:
            yield Row(first, cells)


def _parquet_rows(file: ExportFile) -> Iterator[Row]:
    with file.opened() as stream:
        batches = _parquet(stream, file.name).iter_batches(_BATCH_ROWS)
        rows = chain.from_iterable(batch.to_pylist() for batch in batches)
        for number, cells in enumerate(rows, start=1):
            yield Row(number, _decoded(cells))


def _parquet(stream: IO[bytes], name: str) -> Any:
    try:
        return pq.ParquetFile(stream)
    except pa.ArrowInvalid as error:
        raise ImportFileError(f"{name}: can't be read: {error}") from error


def _decoded(cells: dict[str, Any]) -> dict[str, Any]:
    """The cells with texts where writers left them as bytes (BYTE_ARRAY without a type)."""
    if not any(isinstance(value, bytes) for value in cells.values()):
        return cells
    return {
        name: value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        for name, value in cells.items()
    }
