"""Fatigue: items that were shown often without a response."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.serving.arranging.candidates import Pool, Visitor

# More than a fallback chain has tiers.
_AFTER_ALL: Final = 1_000


def tiers_by_fatigue(pool: Pool, visitor: Visitor, limit: int) -> NDArray[np.int64]:
    """The candidates' tiers, with tiers of their own at the end for items that are worn out.

    They fill a list that would be short without them, since an empty place serves nobody. Until
    then they are left out.

    Args:
        pool: The candidates.
        visitor: How often each item was shown without a response.
        limit: Times from which an item is worn out; 0 for never.
    """
    tiers, size = pool.tiers.astype(np.int64), len(pool.item_ids)
    if not limit or not visitor.impressions or not size:
        return tiers
    shown = (
        pool.items.number(item_id) for item_id, times in visitor.impressions.items()
        if times >= limit
    )  # fmt: skip
    worn = [number for number in shown if number is not None and number < size]
    tiers[worn] += _AFTER_ALL
    return tiers
