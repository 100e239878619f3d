"""Sets of items as bits."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from slipstream.models.kernels.compiler import kernel
from slipstream.models.kernels.selection import add, drain, words

ITEMS = 3 * 4_096 + 5


@kernel
def drained(given: NDArray[np.int32], bits: NDArray[np.int64], out: NDArray[np.int32]) -> int:
    for k in range(len(given)):
        add(bits, given[k])
    return drain(bits, out)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, ITEMS - 1) | st.sampled_from([0, 63, 64, 4_095, 4_096, ITEMS - 1])))
def test_a_set_is_emptied_in_ascending_order(items: list[int]) -> None:
    bits, out = np.zeros(words(ITEMS), np.int64), np.empty(ITEMS, np.int32)
    size = drained(np.array(items, np.int32), bits, out)
    assert out[:size].tolist() == sorted(set(items))
    assert not bits.any()
