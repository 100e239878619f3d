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
    numbers = [pool.items.number(item_id) for item_id in visitor.history]
    known = [age for age, number in enumerate(numbers) if number is not None]
    rows = pool.items.rows[[numbers[age] for age in known]]
    counts = np.maximum(np.array(visitor.weights, np.float64), 0)
    return rows, (counts * np.exp2(np.arange(len(counts)) / -_HALF_LIFE))[known]
