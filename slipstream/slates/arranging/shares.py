"""Shares of a policy: diversity, calibration and exploration of a slate's places.

Likeness of candidates, for a slate's diversity.

Diversity is maximal marginal relevance (Carbonell & Goldstein, SIGIR 1998): each place gets the
candidate with the greatest (1 - diversity) * relevance - diversity * likeness, where likeness is
that to the most similar item of the slate, pinned ones included. Relevance falls in equal steps
from 1 for the best candidate of a tier to nearly 0 for its last, so that the share means the same
for every model, whatever its scores are like.

Calibration: the shares of an attribute in the slate follow the visitor's history.

Steck, "Calibrated Recommendations" (RecSys 2018): each place gets the candidate with the greatest
(1 - calibration) * relevance - calibration * KL(history's shares || slate's shares), the divergence
as a part of the greatest possible one. An item of several values is a part of each.

Exploration: places that go to cold candidates by chance, so that something is learnt of them.

Each place that no pin has explores with probability e, the policy's share, by itself: it then gets
one of the cold candidates that may stand there, all with the same probability. Otherwise it gets
the best one, cold or not. May stand there: those of the tier that is being filled, within the
limits, given what stands before. With c such cold candidates, an item's propensity is

    (1 - e) * [it is the best] + (e / c) * [it is cold]

and 1 or 0 where c is 0. These sum to 1 over all candidates, and their product over the places is
the probability of the whole slate.
"""

from hashlib import shake_128
from typing import Final

import numpy as np
from numpy.typing import NDArray

from slipstream.slates.arranging.attribute_values import Entries, categories, entries
from slipstream.slates.arranging.pool import Pool, Visitor
from slipstream.slates.catalogue.columns import Columns
from slipstream.slates.catalogue.masks import Rows

# Most attributes that are compared, those first that the catalogue had first, and most values of a
# list. They bound the time.
_MOST_ATTRIBUTES: Final = 32
_MOST_VALUES: Final = 16


def terms_of(columns: Columns, rows: Rows) -> Entries:
    """All categories of candidates. Those that few of them share make them alike the most."""
    names = list(dict.fromkeys([*list(columns.categories), *list(columns.lists)]))
    return entries(
        [categories(columns, name, rows, _MOST_VALUES) for name in names[:_MOST_ATTRIBUTES]]
    )


def directions(vectors: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """The vectors at length 1, zeros where they are; (0, 0) for no vectors."""
    if vectors is None:
        return np.empty((0, 0), np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return np.ascontiguousarray(vectors / np.where(lengths > 0, lengths, 1)[:, None], np.float32)


# Events after which an older one counts half.
_HALF_LIFE: Final = 20


def past_of(pool: Pool, visitor: Visitor) -> tuple[Rows, NDArray[np.float64]]:
    """The rows of the history's items in the catalogue, and how much each counts.

    Weights halve every `_HALF_LIFE` events. Those below 0 do not count.
    """
    numbers = enumerate(map(pool.items.number, visitor.history))
    known = [(age, number) for age, number in numbers if number is not None]
    ages, places = np.array(known, np.int64).reshape(-1, 2).T
    counts = np.maximum(np.array(visitor.weights, np.float64)[ages], 0)
    return pool.items.rows[places], counts * np.exp2(ages / -_HALF_LIFE)


def draws(seed: str, n: int) -> NDArray[np.float64]:
    """Two numbers from 0 to below 1 for each of `n` places, the same for a seed for ever.

    SHAKE-128 (FIPS 202) makes them, which no version of a library changes.
    """
    drawn = np.frombuffer(shake_128(seed.encode()).digest(16 * n), "<u8")
    return ((drawn >> np.uint64(11)) * np.float64(2.0**-53)).reshape(n, 2)
