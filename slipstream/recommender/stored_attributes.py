"""Attributes of a bundle's items, read one item at a time from the bundle's files.

A swap must not parse those of all items at once: at a million items the interpreter would do
nothing else for seconds, and no request would be answered.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from slipstream.models.base import Arrays


class StoredAttributes(Mapping[str, Mapping[str, Any]]):
    """Attributes by item id, as JSON texts one behind the other; an item without any has none.

    Args:
        places: Place of each item in the catalogue, by id.
        texts: The texts of all items, in UTF-8.
        ends: Where the text of each place ends.
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
