import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from slipstream.models.kernels.arithmetic import COLUMNS, ROWS, multiply


@njit
def product(x: NDArray[np.float32], w: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    multiply(x, w, out)


@pytest.mark.parametrize("rows", [0, 1, ROWS - 1, ROWS, ROWS + 1, 5 * ROWS - 1])
@pytest.mark.parametrize("width", [1, COLUMNS - 1, COLUMNS, COLUMNS + 1, 5 * COLUMNS - 3])
@pytest.mark.parametrize("inner", [1, 3, 64])
def test_a_product_is_that_of_numpy_whatever_its_shape(rows: int, width: int, inner: int) -> None:
    random = np.random.default_rng(7)
    x = random.normal(size=(rows, inner)).astype(np.float32)
    w = random.normal(size=(inner, width)).astype(np.float32)
    out = np.full((rows + 1, width), 7, np.float32)
    product(x, w, out[:rows])
    np.testing.assert_allclose(out[:rows], x @ w, rtol=1e-4, atol=1e-5)
    assert (out[rows] == 7).all()
