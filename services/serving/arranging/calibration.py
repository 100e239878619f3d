"""Calibration: a slate whose shares of an attribute follow the visitor's history.

Steck, "Calibrated Recommendations" (RecSys 2018): each place gets the candidate with the greatest
(1 - calibration) * relevance - calibration * KL(history's shares || slate's shares), the divergence
as a part of the greatest possible one. An item of several values is a part of each.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.serving.arranging.candidates import Pool, Visitor
from services.serving.filters.masks import Rows

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
