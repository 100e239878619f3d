"""The attributes and times of the catalogue's items as columns, with an entry for each row.

Numbers are floats, categories are codes, and lists of categories are lists of codes. A value that
is none of these, such as a long text or an object, has no column. Times (ms) say when each item
appeared, and from when on it may not be shown.
"""

import heapq
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.times import parse_iso
from slipstream.contracts.vocabulary import is_identifying
from slipstream.filters.evaluation import number_of
from slipstream.models.base import Mask
from slipstream.slates.catalogue.growing import (
    GrowingArray,
    Room,
    Rooms,
    as_room,
    from_room,
    part,
    parts,
)

# Items of the list: enough for a filter that one item in a hundred meets.
KEPT: Final = 5_000
# Greatest age of the list while the catalogue changes, so that a catalogue which changes all the
# time costs a sort a second, not one a request.
FRESH_S: Final = 1.0


class NewestItems:
    """Times at which items appeared (ms), by row, and the list of the latest that may be shown.

    Written by one thread, read by others. `clock` gives seconds of a monotonic clock.
    """

    def __init__(self, kept: int = KEPT, clock: Callable[[], float] = time.monotonic) -> None:
        self._kept, self._clock = kept, clock
        self._appeared = GrowingArray(np.float64, -np.inf)
        self.changes = 0
        self._made_at, self._made_of = float("-inf"), (-1, -1)
        self._list: Sequence[tuple[str, float]] = ()

    def room(self) -> Room:
        """The times in an array."""
        return self._appeared.room()

    def restore(self, room: Room) -> None:
        """Take these times in the place of all that are here."""
        self._appeared = GrowingArray.restore(-np.inf, room)
        self.changes += 1

    def appeared(self, row: int) -> float:
        """The time at which the item of a row appeared."""
        return float(self._appeared.get(row))

    def times(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """The times at which the items of these rows appeared."""
        return self._appeared.at(rows.astype(np.int32))

    def put(self, row: int, appeared: float) -> None:
        """Set the time at which the item of a row appeared."""
        if self._appeared.get(row) != appeared:
            self._appeared.put(row, appeared)
            self.changes += 1

    def put_earlier(self, row: int, appeared: float) -> None:
        """The same, where this time is earlier than the one that is kept."""
        self.put(row, min(appeared, self.appeared(row)))

    def latest(
        self, item_ids: Sequence[str], shown: Mask, visibility: int
    ) -> Sequence[tuple[str, float]]:
        """Ids and times of the latest items that may be shown, newest first.

        Of equally new ones the lesser id comes first, so that all processes give the same list.
        `visibility` changes with `shown`.
        """
        made_of = (self.changes, visibility)
        now = self._clock()
        if made_of != self._made_of and now - self._made_at >= FRESH_S:
            appeared = self._appeared.values
            size = min(len(appeared), len(shown))
            rows = np.flatnonzero(shown[:size])
            if len(rows) > self._kept:
                rows = rows[np.argpartition(-appeared[rows], self._kept)[: self._kept]]
            found = [(item_ids[row], float(appeared[row])) for row in rows.tolist()]
            self._list = sorted(found, key=lambda entry: (-entry[1], entry[0]))
            self._made_of, self._made_at = made_of, now
        return self._list


def appeared_at(record: CatalogRecord) -> float:
    """The time (ms) at which an item appeared: that of its first record, or of an earlier
    publication.
    """
    appeared = record.timestamp if record.appeared_at is None else record.appeared_at
    published = milliseconds(record.attributes.get("published_at"))
    return published if 0 <= published < appeared else appeared


def milliseconds(moment: Any) -> float:
    """A time in ms; infinity for none, and for a value that is no time."""
    if isinstance(moment, int | float) and not isinstance(moment, bool):
        return float(moment)
    try:
        return parse_iso(moment)
    except (TypeError, ValueError):
        return math.inf


def wall_clock() -> float:
    """The time now."""
    return time.time() * 1000


# Outdated moments that the heap may hold beyond twice the items that expire.
SURPLUS: Final = 1_000


class Expiries:
    """The moment (ms) at which each item expires, the earliest first."""

    def __init__(self) -> None:
        self._moments: dict[str, float] = {}
        # Outdated moments stay, until most of them are.
        self._heap: list[tuple[float, str]] = []

    def moments(self) -> dict[str, float]:
        """A copy of all moments to come, by item."""
        return self._moments.copy()

    def put(self, item_id: str, moment: float, now: float) -> None:
        """Have an item expire at this moment, instead of an earlier told one; infinity is never."""
        if not now < moment < math.inf:
            self._moments.pop(item_id, None)
            return
        self._moments[item_id] = moment
        heapq.heappush(self._heap, (moment, item_id))
        if len(self._heap) > 2 * len(self._moments) + SURPLUS:
            self._heap = [(each, name) for name, each in self._moments.items()]
            heapq.heapify(self._heap)

    def due(self, now: float) -> bool:
        """Whether there may be items to take."""
        return bool(self._heap) and self._heap[0][0] <= now

    def take(self, now: float) -> Iterator[str]:
        """The items that have expired, each once."""
        while self.due(now):
            moment, item_id = heapq.heappop(self._heap)
            if self._moments.get(item_id) == moment:
                del self._moments[item_id]
                yield item_id


LONGEST_CATEGORY = 64
# Most columns of a kind: each costs memory for every item.
MOST_COLUMNS = 100
# Most names of attributes that are remembered.
MOST_NAMES = 1_000
# Most rows that are listed for a value, the latest ones, so that a look-up costs the same in a
# catalogue of any size.
_LISTED = 1_000
_NO_CODES: Sequence[int] = ()

Column = TypeVar("Column")


class Vocabulary:
    """The values of a column as codes, the text of each code, and the latest rows that have it.

    A value that no row has any more gives its code back.
    """

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}
        self.texts: list[str] = []
        # Of codes without an entry here, the rows are those of `_stored`, each code's behind its
        # begin.
        self._rows: dict[int, dict[int, None]] = {}
        self._stored: tuple[NDArray[np.int32], list[int]] = (np.empty(0, np.int32), [])
        self._counts: list[int] = []
        self._free: list[int] = []

    @classmethod
    def restore(cls, rooms: Rooms) -> Self:
        """A vocabulary from arrays. Its rows stay there until a code gets or loses one."""
        restored = cls()
        restored.texts, restored._counts, begins = from_room(rooms["values"])
        restored._stored = rooms["rows"].array, begins
        for code, text in enumerate(restored.texts):
            if restored._counts[code]:
                restored.codes[text] = code
            else:
                restored._free.append(code)
        return restored

    def rooms(self) -> Rooms:
        """The vocabulary in arrays."""
        rows = [self.rows(code) for code in range(len(self.texts))]
        begins = np.cumsum([0, *map(len, rows)]).tolist()
        joined = np.fromiter(chain.from_iterable(rows), np.int32)
        values = as_room([self.texts, self._counts, begins])
        return {"values": values, "rows": Room.full(joined)}

    def add(self, value: str, row: int) -> int:
        """The value's code, now that a row has the value."""
        code = self.codes.get(value)
        if code is None:
            code = self._free.pop() if self._free else len(self._counts)
            if code == len(self._counts):
                self._counts.append(0)
                self.texts.append(value)
            self.texts[code] = value
            self.codes[value] = code
        self._counts[code] += 1
        rows = self._own(code)
        rows[row] = None
        if len(rows) > _LISTED:
            del rows[next(iter(rows))]
        return code

    def remove(self, value: str, row: int) -> None:
        """Take a row away from a value that it had."""
        code = self.codes[value]
        self._counts[code] -= 1
        self._own(code).pop(row, None)
        if not self._counts[code]:
            del self.codes[value]
            self._rows[code] = {}
            self._free.append(code)

    def rows(self, code: int) -> list[int]:
        """The latest rows with this code, `_LISTED` at most."""
        rows = self._rows.get(code)
        if rows is not None:
            return list(rows)
        array, begins = self._stored
        return array[begins[code] : begins[code + 1]].tolist() if code + 1 < len(begins) else []

    def _own(self, code: int) -> dict[int, None]:
        if code not in self._rows:
            self._rows[code] = dict.fromkeys(self.rows(code))
        return self._rows[code]


class CategoryColumn:
    """One category a row: `codes`, -1 for none."""

    def __init__(self) -> None:
        self.vocabulary = Vocabulary()
        self.codes = GrowingArray(np.int32, -1)

    @classmethod
    def restore(cls, rooms: Rooms) -> Self:
        """The column of `rooms`."""
        restored = cls()
        restored.vocabulary = Vocabulary.restore(part(rooms, "vocabulary"))
        restored.codes = GrowingArray.restore(-1, rooms["codes"])
        return restored

    def rooms(self) -> Rooms:
        """The column in arrays."""
        return {"codes": self.codes.room(), **parts(vocabulary=self.vocabulary.rooms())}

    def put(self, row: int, before: str | None, after: str | None) -> None:
        """Replace a row's value; None is no value."""
        code = -1 if after is None else self.vocabulary.add(after, row)
        if before is not None:
            self.vocabulary.remove(before, row)
        self.codes.put(row, code)

    def codes_of(self, row: int) -> Sequence[int]:
        """The row's code, in a sequence of one or none."""
        code = self.codes.get(row)
        return (code,) if code >= 0 else _NO_CODES


class ListColumn:
    """Several categories a row.

    Attributes:
        arrays: `codes`, `begins` and `ends`: row i has the codes from begins[i] to ends[i]. Read
            the three at once, since they are replaced together.
    """

    def __init__(self) -> None:
        self.vocabulary = Vocabulary()
        self.arrays: tuple[
            GrowingArray[np.int32], GrowingArray[np.int64], GrowingArray[np.int64]
        ] = (GrowingArray(np.int32, -1), GrowingArray(np.int64, 0), GrowingArray(np.int64, 0))
        self._live = 0

    @classmethod
    def restore(cls, rooms: Rooms) -> Self:
        """The column of `rooms`."""
        restored = cls()
        restored.vocabulary = Vocabulary.restore(part(rooms, "vocabulary"))
        restored.arrays = (
            GrowingArray.restore(-1, rooms["codes"]),
            GrowingArray.restore(0, rooms["begins"]),
            GrowingArray.restore(0, rooms["ends"]),
        )
        _, begins, ends = restored.arrays
        restored._live = int((ends.values - begins.values).sum())
        return restored

    def rooms(self) -> Rooms:
        """The column in arrays."""
        codes, begins, ends = (array.room() for array in self.arrays)
        arrays = {"codes": codes, "begins": begins, "ends": ends}
        return {**arrays, **parts(vocabulary=self.vocabulary.rooms())}

    def put(self, row: int, before: Sequence[str], after: Sequence[str]) -> None:
        """Replace a row's values, each of which occurs once."""
        for value in before:
            self.vocabulary.remove(value, row)
        added = [self.vocabulary.add(value, row) for value in after]
        codes, begins, ends = self.arrays
        begin = len(codes)
        codes.extend(added)
        begins.put(row, begin)
        ends.put(row, begin + len(added))
        self._live += len(added) - len(before)
        if len(codes) > 2 * self._live + _LISTED:
            self._compact()

    def codes_of(self, row: int) -> Sequence[int]:
        """The row's codes."""
        codes, begins, ends = self.arrays
        found: list[int] = codes.values[begins.get(row) : ends.get(row)].tolist()
        return found

    def entries(
        self, rows: NDArray[np.int32], most: int | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """The codes of several rows, and for each code the place of its row among them.

        With `most`, of each row the first ones up to that number.
        """
        codes, begins, ends = self.arrays
        # In this order: an end that is older than its begin makes a row empty for a moment.
        last, first = ends.at(rows), begins.at(rows)
        lengths = np.maximum(last - first, 0)
        if most is not None:
            lengths = np.minimum(lengths, most)
        places = np.repeat(np.arange(len(rows)), lengths)
        skipped = first - (np.cumsum(lengths) - lengths)
        return places, codes.values[np.arange(len(places)) + skipped[places]]

    def _compact(self) -> None:
        """Drop the codes that no row refers to."""
        codes, begins, ends = self.arrays
        lengths = ends.values - begins.values
        new_ends = np.cumsum(lengths)
        moved = np.repeat(begins.values - (new_ends - lengths), lengths)
        self.arrays = (
            GrowingArray(np.int32, -1, codes.values[np.arange(lengths.sum()) + moved]),
            GrowingArray(np.int64, 0, new_ends - lengths),
            GrowingArray(np.int64, 0, new_ends),
        )


class Columns:
    """The columns by attribute. An attribute with values of different kinds has several columns.

    `most` is the number of columns of a kind; further attributes have none. `names` are all names
    that an item has, or had; None where they are too many, or restored arrays don't tell them.
    """

    def __init__(self, most: int = MOST_COLUMNS) -> None:
        self._most = most
        self.names: frozenset[str] | None = frozenset()
        self.numbers: dict[str, GrowingArray[np.float64]] = {}
        self.categories: dict[str, CategoryColumn] = {}
        self.lists: dict[str, ListColumn] = {}

    @classmethod
    def restore(cls, rooms: Rooms) -> Self:
        """The columns of `rooms`."""
        restored = cls()
        numbers, categories, lists = from_room(rooms["names"])
        known = from_room(rooms["all_names"]) if "all_names" in rooms else None
        restored.names = None if known is None else frozenset(known)
        for at, name in enumerate(numbers):
            restored.numbers[name] = GrowingArray.restore(np.nan, rooms[f"numbers.{at}"])
        for at, name in enumerate(categories):
            restored.categories[name] = CategoryColumn.restore(part(rooms, f"categories.{at}"))
        for at, name in enumerate(lists):
            restored.lists[name] = ListColumn.restore(part(rooms, f"lists.{at}"))
        return restored

    def rooms(self) -> Rooms:
        """The columns in arrays, by number, since names may be anything."""
        categories = _numbered(column.rooms() for column in self.categories.values())
        lists = _numbered(column.rooms() for column in self.lists.values())
        numbers = {str(at): column.room() for at, column in enumerate(self.numbers.values())}
        names = as_room([list(self.numbers), list(self.categories), list(self.lists)])
        return {
            "names": names,
            "all_names": as_room(None if self.names is None else list(self.names)),
            **parts(numbers=numbers, categories=categories, lists=lists),
        }

    def __contains__(self, name: object) -> bool:
        """Whether an item has, or had, an attribute of this name."""
        return name in self.numbers or name in self.categories or name in self.lists

    def put(self, row: int, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """Replace a row's attributes. `before` is what it was last put with, empty if new."""
        if self.names is not None and not self.names.issuperset(after):
            names = self.names.union(after)
            self.names = names if len(names) <= MOST_NAMES else None
        for name, value in after.items():
            was = before.get(name)
            if was != value and not is_identifying(name):
                self._put(row, name, was, value)
        for name in before.keys() - after.keys():
            if not is_identifying(name):
                self._put(row, name, before[name], None)

    def terms(self, row: int) -> Iterator[tuple[Vocabulary, int]]:
        """The categories that describe a row, also those of its lists."""
        for columns in (self.categories, self.lists):
            for column in columns.copy().values():
                for code in column.codes_of(row):
                    yield column.vocabulary, code

    def _put(self, row: int, name: str, was: Any, now: Any) -> None:
        earlier, number = number_of(was), number_of(now)
        if earlier is not None or number is not None:
            column = _column(self.numbers, name, _number_column, self._most)
            if column is not None:
                column.put(row, np.nan if number is None else number)
        if _is_category(was) or _is_category(now):
            categories = _column(self.categories, name, CategoryColumn, self._most)
            if categories is not None:
                categories.put(
                    row, was if _is_category(was) else None, now if _is_category(now) else None
                )
        if isinstance(was, list) or isinstance(now, list):
            lists = _column(self.lists, name, ListColumn, self._most)
            if lists is not None:
                lists.put(row, _categories(was), _categories(now))


def _numbered(columns: Iterable[Rooms]) -> Rooms:
    return parts(**{str(at): rooms for at, rooms in enumerate(columns)})


def _column(
    columns: dict[str, Column], name: str, new: Callable[[], Column], most: int
) -> Column | None:
    """The column of an attribute, perhaps a new one; None where there are too many already."""
    column = columns.get(name)
    if column is None and len(columns) < most:
        column = columns[name] = new()
    return column


def _number_column() -> GrowingArray[np.float64]:
    return GrowingArray(np.float64, np.nan)


def _is_category(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_CATEGORY


def _categories(value: Any) -> Sequence[str]:
    """The categories in a list, each once."""
    if not isinstance(value, list):
        return ()
    return list(dict.fromkeys(one for one in value if _is_category(one)))
