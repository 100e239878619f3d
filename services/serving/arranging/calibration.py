"""Calibration: a slate whose shares of an attribute follow the visitor's history.

Steck, "Calibrated Recommendations" (RecSys 2018): each place gets the candidate with the greatest
(1 - calibration) * relevance - calibration * KL(history's shares || slate's shares), the divergence
as a part of the greatest possible one. An item of several values is a part of each.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.serving.arranging.attribute_values import values
from services.serving.columns import Columns
from services.serving.filters.masks import Rows

# Events after which an older one counts half.
_HALF_LIFE: Final = 20


class Shares(NamedTuple):
    """Calibrated values of candidates.

    Attributes:
        places: The candidate of each value.
        codes: The value, as a place in `wanted`; only values that the history has.
        parts: The part of the candidate's values that it is.
        wanted: The shares of the values in the history, which sum to 1; empty without a history.
    """

    places: NDArray[np.int64]
    codes: NDArray[np.int64]
    parts: NDArray[np.float64]
    wanted: NDArray[np.float64]


NO_SHARES: Final = Shares(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0))


def shares_of(
    columns: Columns, name: str, rows: Rows, history: Rows, weights: NDArray[np.float64]
) -> Shares:
    """The values of candidates, and their shares in a history.

    Args:
        columns: The attributes.
        name: The calibrated attribute.
        rows: The candidates' rows.
        history: Rows of the history's items, latest first.
        weights: Weight of each, which age halves every `_HALF_LIFE` events. Those of 0 and less
            do not count.
    """
    size = len(rows)
    places, keys = values(columns, name, np.concatenate((rows, history)))
    parts = 1 / np.bincount(places, minlength=1)[places]
    aged = np.maximum(weights, 0) * 0.5 ** (np.arange(len(history)) / _HALF_LIFE)
    of_past = np.zeros(len(places))
    of_past[places >= size] = aged[places[places >= size] - size] * parts[places >= size]
    past = of_past > 0
    if not past.any():
        return NO_SHARES
    known, where = np.unique(keys[past], return_inverse=True)
    wanted = np.bincount(where, of_past[past])
    codes = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    kept = (places < size) & (known[codes] == keys)
    return Shares(places[kept], codes[kept], parts[kept], wanted / wanted.sum())
