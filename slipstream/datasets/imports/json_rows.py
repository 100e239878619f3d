"""Rows of JSON: an object a line, an array, or the products of JSON-LD."""

from collections.abc import Iterator
from itertools import chain, starmap
from typing import Any, Final

import orjson

from slipstream.datasets.imports.forms import Row
from slipstream.datasets.imports.linked_data import products
from slipstream.datasets.imports.sources import ImportFileError
from slipstream.datasets.imports.texts import has_bad_bytes

# A JSON array is held whole, unlike JSON lines.
_MOST_ARRAY_BYTES: Final = 64 * 1024 * 1024


def json_row(number: int, line: str) -> Row:
    """The row of a line of JSON."""
    if has_bad_bytes(line):
        return Row(number, {"line": line}, "has bytes that are not UTF-8")
    try:
        value = orjson.loads(line.rstrip().rstrip(",") if line.endswith(",\n") else line)
    except orjson.JSONDecodeError as error:
        return Row(number, {"line": line.strip()[:1_000]}, f"is no JSON: {error}")
    if not isinstance(value, dict):
        return Row(number, {"line": line.strip()[:1_000]}, "is no JSON object")
    return Row(number, _flat(value))


def _flat(value: dict[str, Any]) -> dict[str, Any]:
    """An object with its properties beside its own fields, as Segment's calls have them."""
    properties = value.get("properties")
    if not isinstance(properties, dict):
        return value
    return {**properties, **{name: v for name, v in value.items() if name != "properties"}}


def linked_rows(text: Iterator[str], name: str) -> Iterator[Row]:
    """The rows of the products of a JSON-LD document, or of one in each line, by their number.

    Raises:
        ImportFileError: It is no JSON, or too large.
    """
    yield from starmap(Row, enumerate(_products(text, name), start=1))


def _products(text: Iterator[str], name: str) -> Iterator[Any]:
    first = next(text, "")
    try:
        yield from products(orjson.loads(first))
    except orjson.JSONDecodeError:
        yield from products(_whole(chain([first], text), name))
        return
    for number, line in enumerate(text, start=2):
        try:
            yield from products(orjson.loads(line) if line.strip() else None)
        except orjson.JSONDecodeError as error:
            raise ImportFileError(f"{name}: line {number} is no JSON: {error}") from error


def array_rows(text: Iterator[str], name: str) -> Iterator[Row]:
    """The rows of a JSON array.

    Raises:
        ImportFileError: It is no JSON, or too large.
    """
    for number, entry in enumerate(_whole(text, name), start=1):
        if isinstance(entry, dict):
            yield Row(number, _flat(entry))
        else:
            yield Row(number, {"entry": entry}, "is no JSON object")


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
        raise ImportFileError(f"{name}: is no JSON: {error}") from error
