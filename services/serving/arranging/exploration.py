"""Exploration: places that go to cold candidates by chance, so that something is learnt of them.

Each place that no pin has explores with probability e, the policy's share, by itself: it then gets
one of the cold candidates that may stand there, all with the same probability. Otherwise it gets
the best one, cold or not. May stand there: those of the tier that is being filled, within the
limits, given what stands before. With c such cold candidates, an item's propensity is

    (1 - e) * [it is the best] + (e / c) * [it is cold]

and 1 or 0 where c is 0. These sum to 1 over all candidates, and their product over the places is
the probability of the whole slate.
"""

from hashlib import shake_128

import numpy as np
from numpy.typing import NDArray


def draws(seed: str, n: int) -> NDArray[np.float64]:
    """Two numbers from 0 to below 1 for each of `n` places, the same for a seed for ever.

    SHAKE-128 (FIPS 202) makes them, which no version of a library changes.
    """
    drawn = np.frombuffer(shake_128(seed.encode()).digest(16 * n), "<u8")
    return ((drawn >> np.uint64(11)) * np.float64(2.0**-53)).reshape(n, 2)
