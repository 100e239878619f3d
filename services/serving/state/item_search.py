"""The search of the catalogue's items by words of title, brand and category, for people.

The index is SQLite's FTS5 in a file of this process. It is made at the first search, so that a
process without searches pays nothing, and follows the catalogue from then on. SQLite works without
the GIL, and its pages are the operating system's to drop.
"""

import sqlite3
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from slipstream.chassis.errors import UnavailableError
from slipstream.slates.catalogue.catalog import Catalog

# Words of a query that count, and characters of a text that are indexed.
MOST_WORDS: Final = 10
_LONGEST_TEXT: Final = 500
# The newest items with all words that are ordered. More would take longer than somebody types.
_ORDERED: Final = 200
# Items that are indexed before a search has its turn.
_AT_ONCE: Final = 256
# Time between two looks at the catalogue.
_PAUSE_S: Final = 0.5
# Longest wait of the first searches for the index.
_PATIENCE_S: Final = 4.0


class ItemSearch:
    """The index of a process. One thread makes it follow the catalogue, others search.

    Args:
        path: File of the index, which replaces an older one; None for one in memory.
    """

    def __init__(self, catalog: Catalog, path: Path | None = None) -> None:
        self._catalog, self._path = catalog, path
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
        self._lock = threading.Lock()
        self._wanted, self._made = threading.Event(), threading.Event()
        self._seen = np.empty(0, np.int64)
        self._database = sqlite3.connect(path or ":memory:", check_same_thread=False)
        for setting in ("journal_mode=MEMORY", "synchronous=OFF", "cache_size=-4000"):
            self._database.execute(f"PRAGMA {setting}")
        self._database.execute(
            "CREATE VIRTUAL TABLE items USING fts5(title, brand, category, prefix='1 2 3')"
        )

    def close(self) -> None:
        """Close the index, and remove its file."""
        with self._lock:
            self._database.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def follow(self, stop: threading.Event) -> None:
        """Follow the catalogue from the first search on, until `stop` is set."""
        changes = -1
        while not stop.wait(_PAUSE_S):
            if self._wanted.is_set() and changes != self._catalog.changes:
                changes = self._catalog.changes
                self.catch_up(stop)

    def catch_up(self, stop: threading.Event | None = None) -> None:
        """Take in all items that have changed since the last call."""
        marks = self._catalog.marks()
        before = len(self._seen)
        if len(marks) > before:
            self._seen = np.append(self._seen, np.full(len(marks) - before, -1, np.int64))
        changed = np.flatnonzero(self._seen[: len(marks)] != marks)
        for first in range(0, len(changed), _AT_ONCE):
            if stop is not None and stop.is_set():
                return
            rows = changed[first : first + _AT_ONCE]
            entries = [(row, *self._texts(row)) for row in rows.tolist()]
            with self._lock, self._database:
                if rows[0] < before:
                    old = [(row,) for row in rows[rows < before].tolist()]
                    self._database.executemany("DELETE FROM items WHERE rowid = ?", old)
                insert = "INSERT INTO items (rowid, title, brand, category) VALUES (?, ?, ?, ?)"
                self._database.executemany(insert, entries)
            self._seen[rows] = marks[rows]
        self._made.set()

    def found(self, query: str, limit: int) -> list[dict[str, Any]]:
        """The items with all words of a query, best first; for a thread.

        An item with whole words comes before one with words that begin so, an item that may be
        shown before one that may not, and then one with the words in its title. Of more than 200
        items with all words, the newest 200 are ordered. An item of this very id stands first.

        Returns:
            Items as `FoundItem` documents them.

        Raises:
            UnavailableError: The index is being made, or can't be read.
        """
        self._wanted.set()
        if not self._made.wait(_PATIENCE_S):
            raise UnavailableError(
                "The index of items is being made, since this process has had no search before:"
                " ask again in some seconds",
                code="no_index",
            )
        words = [word.replace('"', '""') for word in query.replace("\0", " ").split()[:MOST_WORDS]]
        found = {query: self._described(query)} if query in self._catalog else {}
        for form in ('"{}"', '"{}"*') if words else ():
            rows = self._rows(" ".join(form.format(word) for word in words))
            items = [self._described(self._catalog.item_id(row)) for row in rows]
            items.sort(key=lambda item: _order(item, words))
            for item in items:
                found.setdefault(item["item_id"], item)
            if len(found) >= limit:
                break
        return list(found.values())[:limit]

    def _rows(self, match: str) -> list[int]:
        try:
            with self._lock:
                rows = self._database.execute(
                    "SELECT rowid FROM items WHERE items MATCH ? ORDER BY rowid DESC LIMIT ?",
                    (match, _ORDERED),
                ).fetchall()
        except sqlite3.Error as error:
            raise UnavailableError(f"the index of items: {error}", code="no_index") from error
        return [row for (row,) in rows]

    def _texts(self, row: int) -> tuple[str, str, str]:
        item_id = self._catalog.item_id(row)
        if self._catalog.why_hidden(item_id) == "deleted":
            return "", "", ""
        attributes = orjson.loads(self._catalog.attributes(item_id) or b"{}")
        return (
            _text(attributes, "title", "name"),
            _text(attributes, "brand"),
            " ".join(_categories(attributes)),
        )

    def _described(self, item_id: str) -> dict[str, Any]:
        attributes = orjson.loads(self._catalog.attributes(item_id) or b"{}")
        price = attributes.get("price")
        categories = _categories(attributes)
        return {
            "item_id": item_id,
            "title": _text(attributes, "title", "name") or None,
            "category": categories[-1] if categories else None,
            "brand": _text(attributes, "brand") or None,
            "color": _text(attributes, "color", "colour") or None,
            "price": price if type(price) in (int, float) else None,
            "available": not self._catalog.why_hidden(item_id),
        }


def _order(item: Mapping[str, Any], words: Sequence[str]) -> tuple[bool, int, int]:
    title = (item["title"] or "").casefold()
    return not item["available"], -sum(word.casefold() in title for word in words), len(title)


def _text(attributes: Mapping[str, Any], *names: str) -> str:
    """The first of these attributes that is a text."""
    texts = (value for name in names if isinstance(value := attributes.get(name), str))
    return next(texts, "")[:_LONGEST_TEXT]


def _categories(attributes: Mapping[str, Any]) -> list[str]:
    """The categories of an item, from the widest to the narrowest."""
    for name in ("categories", "category"):
        value = attributes.get(name)
        values = value if isinstance(value, list) else [value]
        if texts := [each[:_LONGEST_TEXT] for each in values[:20] if isinstance(each, str)]:
            return texts
    return []
