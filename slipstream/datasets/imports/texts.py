"""Text files: their encoding, and their lines, none of which is held longer than is needed."""

import codecs
import io
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Any, Final

from slipstream.datasets.imports.sources import ExportFile, ImportFileError

# A longer line is no row of an export; nobody holds it in memory.
MOST_CHARACTERS: Final = 2_000_000
_CHUNK: Final = 1 << 20
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Bytes that cp1252 has no character for.
_UNDEFINED: Final = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")
# One bad byte among this many good characters of several bytes is a slip, not another encoding.
_SLIPS: Final = 10


def find_encoding(file: ExportFile) -> str:
    """The encoding of a text file: that of its byte order mark, UTF-8, or else cp1252 or Latin-1.

    All bytes are read, since the first accent may stand in the last line. UTF-8 with a few bad
    bytes is UTF-8; those bytes stay visible as surrogates (`decoded`).
    """
    good = bad = 0
    undefined = False
    with file.unpacked() as stream:
        first = stream.read(_CHUNK)
        for mark, encoding in _BOMS:
            if first.startswith(mark):
                return encoding
        if (guess := _utf16(first)) is not None:
            return guess
        decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        chunk = first
        while chunk:
            if not chunk.isascii() or decoder.getstate()[0]:
                text = decoder.decode(chunk)
                strange = len(re.findall(r"[^\x00-\x7f]", text))
                errors = len(re.findall(r"[\udc80-\udcff]", text))
                good, bad = good + strange - errors, bad + errors
                undefined = undefined or bool(_UNDEFINED.search(chunk))
            chunk = stream.read(_CHUNK)
    if bad * _SLIPS <= good:
        return "utf-8"
    return "latin-1" if undefined else "cp1252"


def _utf16(beginning: bytes) -> str | None:
    """UTF-16 without a mark: in Western text every other byte is NUL."""
    half = len(beginning) // 2
    if half < 2:
        return None
    if beginning[1::2].count(0) > 0.7 * half and beginning[::2].count(0) < 0.1 * half:
        return "utf-16-le"
    if beginning[::2].count(0) > 0.7 * half and beginning[1::2].count(0) < 0.1 * half:
        return "utf-16-be"
    return None


def lines(stream: IO[bytes], encoding: str, name: str) -> Iterator[str]:
    """The lines of a text with their ends; bad bytes of UTF-8 are lone surrogates.

    Raises:
        ImportFileError: A line is longer than `MOST_CHARACTERS`, or the encoding does not fit.
    """
    errors = "surrogateescape" if encoding.startswith("utf-8") else "strict"
    content: Any = stream
    text = io.TextIOWrapper(content, encoding, errors, newline="")
    try:
        while line := text.readline(MOST_CHARACTERS):
            if len(line) == MOST_CHARACTERS:
                raise ImportFileError(
                    f"{name}: a line has over {MOST_CHARACTERS:,} characters; is it a text file?"
                )
            yield line
    except UnicodeError as error:
        raise ImportFileError(
            f"{name}: is not {encoding}: {error}; name its encoding with --encoding"
        ) from error
    finally:
        with suppress(ValueError):  # the stream was closed before this generator
            text.detach()


def has_bad_bytes(value: Any) -> bool:
    """Whether a cell or a line has bytes that its encoding does not have."""
    return isinstance(value, str) and not value.isascii() and bool(_SURROGATES.search(value))


_SURROGATES: Final = re.compile(r"[\ud800-\udfff]")
