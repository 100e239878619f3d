"""Items of a bundle, in files that processes map and share: their ids, numbers and attributes.

A million ids take a process 129 MB as a list and a dict, and all processes together 32 MB of files
as arrays. A look-up takes longer than a dict's, so the latest ones are kept.

Attributes are read one item at a time. A swap must not parse those of all items at once: at a
million items the interpreter would do nothing else for seconds, and no request would be answered.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, Final, overload
from zlib import crc32

import numpy as np
import orjson
from numpy.typing import NDArray

from slipstream.models.base import Arrays

# Look-ups that are kept each way, of some 200 bytes.
_KEPT: Final = 1 << 13
# Ids that are compared at a time.
_PORTION: Final = 1 << 16


class StoredIds(Sequence[str]):
    """Item ids by number, each once.

    Attributes:
        arrays: The arrays.
        find: Returns the number of an id; None for an id that is not among them.
    """

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays
        self._text = _reader(arrays)
        self._kept = lru_cache(_KEPT)(self._text)
        self.find: Callable[[str], int | None] = lru_cache(_KEPT)(_finder(arrays))
        self.numbers: Mapping[str, int] = _Numbers(arrays, self.find)

    def __len__(self) -> int:
        return len(self.arrays["ends"])

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> list[str]: ...
    def __getitem__(self, number: int | slice) -> str | list[str]:
        if isinstance(number, slice):
            return [self._text(each) for each in range(*number.indices(len(self)))]
        return self._kept(number)

    def __iter__(self) -> Iterator[str]:
        return map(self._text, range(len(self)))

    def numbers_of(self, item_ids: "StoredIds") -> NDArray[np.int32]:
        """The number of each of these ids, -1 for one that is not among them.

        The interpreter is free for most of the time.
        """
        found = np.full(len(item_ids), -1, np.int32)
        hashes, order, buckets = (self.arrays[name] for name in ("hashes", "order", "buckets"))
        shift = _shift(buckets)
        for begin in range(0, len(item_ids), _PORTION):
            asked = np.arange(begin, min(begin + _PORTION, len(item_ids)))
            bucket = item_ids.arrays["hashes"][asked] >> shift
            at, end = buckets[bucket], buckets[bucket + 1]
            while len(asked := asked[left := at < end]):
                at, end = at[left], end[left]
                numbers = order[at]
                same = hashes[numbers] == item_ids.arrays["hashes"][asked]
                same[same] = _equal(self.arrays, numbers[same], item_ids.arrays, asked[same])
                found[asked[same]] = numbers[same]
                asked, at, end = asked[~same], at[~same] + 1, end[~same]
        return found


def arrays_of(item_ids: Iterable[str]) -> Arrays:
    """The arrays of any ids. Raises UnicodeEncodeError for an id that UTF-8 can't hold.

    Returns:
        `texts` and `ends`; the CRC-32 of each id (`hashes`), with its bucket in the first
        bits; the numbers by bucket (`order`), and where each bucket begins and the last one ends
        (`buckets`). There are one to two times as many buckets as ids.
    """
    encoded = [item_id.encode() for item_id in item_ids]
    size = len(encoded)
    hashes = np.fromiter(map(crc32, encoded), np.uint32, size)
    buckets = np.zeros((1 << size.bit_length()) + 1, np.int32)
    bucket = hashes >> _shift(buckets)
    np.cumsum(np.bincount(bucket, minlength=len(buckets) - 1), out=buckets[1:])
    return {
        "texts": np.frombuffer(b"".join(encoded), np.uint8),
        "ends": np.cumsum([len(item_id) for item_id in encoded], dtype=np.int64),
        "hashes": hashes,
        "order": np.argsort(bucket, kind="stable").astype(np.int32),
        "buckets": buckets,
    }


class _Numbers(Mapping[str, int]):
    def __init__(self, arrays: Arrays, find: Callable[[str], int | None]) -> None:
        self._arrays, self._find = arrays, find

    def __getitem__(self, item_id: str) -> int:
        number = self._find(item_id)
        if number is None:
            raise KeyError(item_id)
        return number

    def get(self, item_id: str, default: Any = None) -> Any:
        number = self._find(item_id)
        return default if number is None else number

    def __contains__(self, item_id: object) -> bool:
        return isinstance(item_id, str) and self._find(item_id) is not None

    def __iter__(self) -> Iterator[str]:
        return map(_reader(self._arrays), range(len(self)))

    def __len__(self) -> int:
        return len(self._arrays["ends"])


def _reader(arrays: Arrays) -> Callable[[int], str]:
    """A function that returns the id of a number. Views of memory are read faster than arrays."""
    texts, ends = arrays["texts"].data, arrays["ends"].data

    def text(number: int) -> str:
        if number < 0:
            number += len(ends)
        return str(texts[ends[number - 1] if number else 0 : ends[number]], "utf-8")

    return text


def _finder(arrays: Arrays) -> Callable[[str], int | None]:
    """A function that returns the number of an id; None for one that is not among them."""
    names = ("texts", "ends", "order", "buckets")
    texts, ends, order, buckets = (arrays[name].data for name in names)
    shift = _shift(arrays["buckets"])

    def number(item_id: str) -> int | None:
        try:
            text = item_id.encode()
        except UnicodeEncodeError:  # half of a surrogate pair
            return None
        bucket = crc32(text) >> shift
        for at in range(buckets[bucket], buckets[bucket + 1]):
            found: int = order[at]
            if texts[ends[found - 1] if found else 0 : ends[found]] == text:
                return found
        return None

    return number


def _shift(buckets: NDArray[np.int32]) -> int:
    return 33 - (len(buckets) - 1).bit_length()


def _equal(
    one: Arrays, its: NDArray[np.int32], other: Arrays, theirs: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether texts of two tables are equal, pair by pair."""
    begins, lengths = _spans(one["ends"], its)
    others, other_lengths = _spans(other["ends"], theirs)
    equal: NDArray[np.bool_] = lengths == other_lengths
    begins, others, lengths = begins[equal], others[equal], lengths[equal]
    pair = np.repeat(np.arange(len(lengths)), lengths)
    inside = np.arange(len(pair)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    differs = one["texts"][begins[pair] + inside] != other["texts"][others[pair] + inside]
    equal[equal] = np.bincount(pair, differs, len(lengths)) == 0
    return equal


def _spans(
    ends: NDArray[np.int64], numbers: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    begins = np.where(numbers > 0, ends[numbers - 1], 0)
    return begins, ends[numbers] - begins


class StoredAttributes(Mapping[str, Mapping[str, Any]]):
    """Attributes by item id, as JSON texts one behind the other; an item without any has none.
    `ends` tells where the text of each place ends, in UTF-8.
    """

    def __init__(
        self, places: Mapping[str, int], texts: NDArray[np.uint8], ends: NDArray[np.int64]
    ) -> None:
        self._places, self._texts, self._ends = places, texts, ends

    def __getitem__(self, item_id: str) -> Mapping[str, Any]:
        text = self._text(self._places[item_id])
        if not text:
            raise KeyError(item_id)
        try:
            attributes: Mapping[str, Any] = orjson.loads(text)
        except orjson.JSONDecodeError:  # NaN and numbers of any length, which JSON proper has not
            attributes = json.loads(text)
        return attributes

    def __iter__(self) -> Iterator[str]:
        return (item_id for item_id, place in self._places.items() if self._text(place))

    def __len__(self) -> int:
        return self._described

    @cached_property
    def _described(self) -> int:
        """The number of items with attributes, counted once: `if attributes` asks for it."""
        return int(np.count_nonzero(np.diff(self._ends, prepend=0)))

    def _text(self, place: int) -> bytes:
        begin = self._ends[place - 1] if place else 0
        return self._texts[begin : self._ends[place]].tobytes()


def stored(attributes: Mapping[str, Mapping[str, Any]], item_ids: Sequence[str]) -> Arrays:
    """The arrays `texts` and `ends` of these items' attributes."""
    texts = [
        json.dumps(attributes[item_id], ensure_ascii=False).encode()
        if item_id in attributes
        else b""
        for item_id in item_ids
    ]
    return {
        "texts": np.frombuffer(b"".join(texts), np.uint8),
        "ends": np.cumsum([len(text) for text in texts], dtype=np.int64),
    }
