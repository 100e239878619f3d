"""Product feeds: Google Merchant's in XML, which are RSS with items, or Atom with entries.

A feed is read piece by piece.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any, Final
from xml.parsers import expat

from slipstream.datasets.imports.sources import ImportFileError, Row

_CHUNK: Final = 1 << 16
# Elements that are items, in RSS and in Atom.
_ITEMS: Final = ("item", "entry")
_MOST_DEPTH: Final = 16
_MOST_FIELDS: Final = 1_000
_MOST_CHARACTERS: Final = 1_000_000
# Marks of encodings, blanks, and the other half of characters in UTF-16.
_BEFORE: Final = b"\xef\xbb\xbf\xff\xfe \t\r\n\x00"
# Bytes of one tag or comment: the parser holds these, and begins again with each chunk.
_MOST_TAG_BYTES: Final = 1 << 20


@dataclass
class _Element:
    name: str
    text: list[str] = field(default_factory=list)
    members: dict[str, Any] = field(default_factory=dict)

    def value(self) -> Any:
        """Its text, or its members as an object."""
        return self.members or "".join(self.text).strip()

    def add(self, name: str, value: Any) -> None:
        """Add a member; several of one name are a list."""
        if value == "":
            return
        held = self.members.get(name)
        if held is None:
            self.members[name] = value
        elif isinstance(held, list):
            held.append(value)
        else:
            self.members[name] = [held, value]


def is_xml(beginning: bytes) -> bool:
    """Whether a file that begins with these bytes is XML, or a page."""
    return beginning.lstrip(_BEFORE).startswith(b"<")


def read_feed(stream: IO[bytes], name: str, encoding: str = "") -> Iterator[Row]:
    """The row of each item: its fields by their names without a prefix.

    A feed with a DOCTYPE is refused: that alone can declare entities, which may grow without end or
    name other files. No tag is resolved, and nothing is fetched. `encoding` is one other than the
    feed says.

    Raises:
        ImportFileError: It is no XML, has a DOCTYPE, or an item is too large or too deep.
    """
    reader = _FeedReader(name, encoding)
    while chunk := stream.read(_CHUNK):
        yield from reader.feed(chunk)
    yield from reader.feed(b"", last=True)
    if not reader.items:
        raise ImportFileError(
            f"{name}: the XML has no <item> and no <entry>: is it a product feed?"
        )


class _FeedReader:
    def __init__(self, name: str, encoding: str) -> None:
        self._name, self.items = name, 0
        self._parser = parser = expat.ParserCreate(encoding or None)
        parser.StartDoctypeDeclHandler = self._refuse_doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        # Open elements of the item that is being read, and the number of all that are open.
        self._open: list[_Element] = []
        self._depth = self._fed = self._line = self._fields = self._size = 0
        self._found: list[Row] = []

    def feed(self, chunk: bytes, *, last: bool = False) -> list[Row]:
        """The items that end in a chunk."""
        self._fed += len(chunk)
        try:
            self._parser.Parse(chunk, last)
        except ImportFileError:
            raise
        except (expat.ExpatError, LookupError, ValueError) as error:  # unknown encodings, too
            raise ImportFileError(f"{self._name}: can't be read as XML: {error}") from error
        if self._fed - max(self._parser.CurrentByteIndex, 0) > _MOST_TAG_BYTES:
            raise self._refusal(f"a tag has over {_MOST_TAG_BYTES:,} bytes")
        found, self._found = self._found, []
        return found

    def _refusal(self, reason: str) -> ImportFileError:
        return ImportFileError(f"{self._name}: line {self._parser.CurrentLineNumber}: {reason}")

    def _refuse_doctype(self, *_: Any) -> None:
        raise self._refusal("has a DOCTYPE, which no product feed needs; is it a page?")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            raise self._refusal(f"elements are nested over {_MOST_DEPTH} deep")
        name = tag.rpartition(":")[2]
        if self._open:
            self._fields += 1
            if self._fields > _MOST_FIELDS:
                raise self._refusal(f"an item has over {_MOST_FIELDS:,} elements")
        elif name in _ITEMS:
            self._line, self._fields, self._size = self._parser.CurrentLineNumber, 0, 0
        else:
            return
        element = _Element(name)
        if "href" in attributes:  # Atom's links have no text
            self._take_characters(element, attributes["href"])
        self._open.append(element)

    def _characters(self, text: str) -> None:
        if self._open:
            self._take_characters(self._open[-1], text)

    def _take_characters(self, element: _Element, text: str) -> None:
        self._size += len(text)
        if self._size > _MOST_CHARACTERS:
            raise self._refusal(f"an item has over {_MOST_CHARACTERS:,} characters")
        element.text.append(text)

    def _end(self, _tag: str) -> None:
        self._depth -= 1
        if not self._open:
            return
        element = self._open.pop()
        if self._open:
            self._open[-1].add(element.name, element.value())
        else:
            self.items += 1
            self._found.append(Row(self._line, element.members))
