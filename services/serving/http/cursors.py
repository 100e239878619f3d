"""Cursors of pages: each holds the items of the pages before, which the next one leaves out.

So a page repeats nothing, whatever the visitor did since, and no replica keeps anything.
"""

import base64
import binascii
import zlib
from collections.abc import Collection, Sequence
from typing import Final

import orjson

from slipstream.contracts.vocabulary import MAX_ID_BYTES

# Items of all pages before, from which no further page is given.
MOST_PAGED: Final = 500
LONGEST: Final = 16_384
# The forms of a cursor: as it is, and packed. Packing takes longer than it is worth for a page.
_PLAIN: Final = "1"
_PACKED: Final = "2"
_LONG: Final = 500
_MOST_BYTES: Final = MOST_PAGED * (6 * MAX_ID_BYTES + 3) + 2


class CursorError(ValueError):
    """A text that no answer gave as a cursor."""


def next_cursor(before: Collection[str], page: Sequence[str], n: int) -> str | None:
    """The cursor of the page after this one; None where there is none.

    Args:
        before: Items of the pages before.
        page: Items of this page.
        n: Length that was asked for. A shorter page is the last one.
    """
    ids = [*before, *page]
    if len(page) < n or len(ids) > MOST_PAGED:
        return None
    text, form = orjson.dumps(ids), _PLAIN
    if len(text) > _LONG:
        text, form = zlib.compress(text, 1), _PACKED
    cursor = form + base64.urlsafe_b64encode(text).decode().rstrip("=")
    return cursor if len(cursor) <= LONGEST else None


def items_before(cursor: str) -> tuple[str, ...]:
    """The items of the pages before. Raises `CursorError`."""
    form, text = cursor[:1], cursor[1:]
    if form not in (_PLAIN, _PACKED):
        raise CursorError("unknown form")
    try:
        given = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
        ids = orjson.loads(given if form == _PLAIN else _unpacked(given))
    except (binascii.Error, zlib.error, ValueError) as error:
        raise CursorError(str(error)) from None
    if (
        not isinstance(ids, list)
        or len(ids) > MOST_PAGED
        or not all(isinstance(each, str) for each in ids)
    ):
        raise CursorError("not a list of ids")
    return tuple(ids)


def _unpacked(packed: bytes) -> bytes:
    unpacking = zlib.decompressobj()
    text = unpacking.decompress(packed, _MOST_BYTES)
    if unpacking.unconsumed_tail or not unpacking.eof:
        raise CursorError("cut off, or too long")
    return text
