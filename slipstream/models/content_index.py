"""An index of items by content: the known items that a new one is most like, by attributes alone.

An item's vector is the sum of its attributes' vectors, each of TF-IDF weights and of length 1: so
the rare words of a title do not outweigh a category. `slipstream.models.content` fits it with
scikit-learn; look-ups need NumPy alone. Terms are kept as 64-bit hashes, so that nothing is parsed
or built when the index is loaded.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from slipstream.models.base import Arrays, Indices, Mask, Scores

_WORD = re.compile(r"\w\w+")


def terms(attributes: Mapping[str, Any]) -> Iterator[str]:
    """The terms of an item: `name=value` for each value, and the words of texts of several words.

    Lists give a term for each element; nulls give none.
    """
    for name, value in attributes.items():
        for element in value if isinstance(value, list | tuple) else (value,):
            if element is None or element == "":
                continue
            text = str(element).lower()
            yield f"{name}={text}"
            words = _WORD.findall(text)
            if len(words) > 1:
                yield from words


# Bounds of the index: terms, those of the most items first, and items listed for a term, the most
# popular first.
MOST_TERMS: Final = 50_000
MOST_LISTED: Final = 500
# Bounds of a look-up: terms of the item that are read, and listed items that are compared, those of
# the rarest terms first.
_MOST_READ: Final = 1_000
_MOST_COMPARED: Final = 5_000


class Neighbours(NamedTuple):
    """Items in descending order of likeness, and their likeness: the mean of the attributes'."""

    items: Indices
    likeness: Scores


_NONE: Final = Neighbours(np.empty(0, np.int32), np.empty(0, np.float32))


@dataclass(frozen=True)
class ContentIndex:
    """For each term of the catalogue, the items that have it.

    Attributes:
        hashes: Hash of each term, ascending.
        ends: End of each term's list in `items`.
        items: Listed items, of one term after the other.
        weights: Weight of the term in each listed item.
    """

    hashes: NDArray[np.uint64]
    rarities: Scores
    ends: NDArray[np.int64]
    items: Indices
    weights: NDArray[np.float16]

    def neighbours(self, attributes: Mapping[str, Any], most: int) -> Neighbours:
        """The `most` known items that are most like an item of these attributes.

        Empty where no known item shares a term.
        """
        counts = Counter(islice(_terms_by_attribute(attributes), _MOST_READ))
        found, places, weight = weighed(
            self.hashes, self.rarities, [term for _, term in counts], list(counts.values())
        )
        rarity = self.rarities[places]
        attribute = np.array([number for number, _ in counts], np.intp)[found]
        lengths = np.sqrt(np.bincount(attribute, weight * weight))
        weight /= lengths[attribute] * np.count_nonzero(lengths)
        ends = self.ends[places]
        begins = np.where(places > 0, self.ends[places - 1], 0)
        listed, votes, room = [], [], _MOST_COMPARED
        for term in np.argsort(-rarity, kind="stable").tolist():
            span = slice(begins[term], min(ends[term], begins[term] + room))
            listed.append(self.items[span])
            votes.append(self.weights[span] * weight[term])
            room -= len(listed[-1])
        if room == _MOST_COMPARED:
            return _NONE
        items, voted = np.unique(np.concatenate(listed), return_inverse=True)
        total = np.bincount(voted, np.concatenate(votes))
        best = np.argsort(-total, kind="stable")[:most]
        return Neighbours(items[best], total[best].astype(np.float32))

    def arrays(self) -> Arrays:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def restore(cls, arrays: Arrays) -> Self:
        return cls(**arrays)


def described(
    known: NDArray[np.uint64], rarities: Scores, vectors: Scores, attributes: Mapping[str, Any]
) -> Scores:
    """The sum of the vectors of an item's terms, by their TF-IDF weights of length 1 (dim). `known`
    has hashes of the terms, ascending, `vectors` is (terms, dim). Other terms count for nothing.
    """
    counts = Counter(islice(terms(attributes), _MOST_READ))
    _, places, weight = weighed(known, rarities, list(counts), list(counts.values()))
    length = np.sqrt(weight @ weight)
    total: Scores = (weight / (length or np.float32(1))) @ vectors[places]
    return total


def weighed(
    known: NDArray[np.uint64], rarities: Scores, names: Sequence[str], counts: Sequence[int]
) -> tuple[Mask, NDArray[np.int64], Scores]:
    """Which of these terms are known, and of those the place and the TF-IDF weight. `known` has
    hashes of at least one term, ascending, `names` each of an item's terms once.
    """
    wanted = hashes(names)
    places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    found = known[places] == wanted
    places = places[found]
    return found, places, rarities[places] * (1 + np.log(np.array(counts, np.float32)[found]))


def _terms_by_attribute(attributes: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """The terms of each attribute, with the attribute's place."""
    for place, (name, value) in enumerate(attributes.items()):
        for term in terms({name: value}):
            yield place, term


def hashes(names: Iterable[str]) -> NDArray[np.uint64]:
    """The terms as the index keeps them."""
    texts = [blake2b(name.encode("utf-8", "replace"), digest_size=8).digest() for name in names]
    return np.frombuffer(b"".join(texts), "<u8").astype(np.uint64)
