"""Arithmetic in loops that the compiler turns into lanes: exp, log, products of matrices.

exp and log are Cephes' polynomials for float32 (S. L. Moshier), right to two units in the last
place. The C library's would be called number by number, for five times as long.
"""

import numpy as np
from numpy.typing import NDArray

from slipstream.models.kernels import tiles
from slipstream.models.kernels.compiler import as_written, compiled
from slipstream.models.kernels.memory import bits_of_float, float_of_bits

# As float32, since a Python number would turn the whole expression into float64.
_f = np.float32
_LOG2E, _LN2_HIGH, _LN2_LOW = _f(1.44269504088896341), _f(0.693359375), _f(-2.12194440e-4)
_E0, _E1, _E2 = _f(1.9875691500e-4), _f(1.3981999507e-3), _f(8.3334519073e-3)
_E3, _E4, _E5 = _f(4.1665795894e-2), _f(1.6666665459e-1), _f(5.0000001201e-1)
_L0, _L1, _L2 = _f(7.0376836292e-2), _f(-1.1514610310e-1), _f(1.1676998740e-1)
_L3, _L4, _L5 = _f(-1.2420140846e-1), _f(1.4249322787e-1), _f(-1.6668057665e-1)
_L6, _L7, _L8 = _f(2.0000714765e-1), _f(-2.4999993993e-1), _f(3.3333331174e-1)
_HALF, _ONE, _ZERO, _ROOT = _f(0.5), _f(1), _f(0), _f(0.707106781186547524)
_LOWEST, _SHIFT = _f(-87), _f(127.5)
_FRACTION, _EXPONENT_OF_HALF = np.int32(0x007FFFFF), np.int32(0x3F000000)
_BIAS, _BIAS_OF_HALF, _PLACES = np.int32(127), np.int32(126), np.int32(23)
_TINY = _f(1e-6)


@as_written
def exp(x: np.float32) -> np.float32:
    """e to the power of x, for x up to 80; 0 below -87."""
    held = max(x, _LOWEST)
    power = np.int32(held * _LOG2E + _SHIFT) - _BIAS
    whole = np.float32(power)
    r = held - whole * _LN2_HIGH - whole * _LN2_LOW
    p = ((((_E0 * r + _E1) * r + _E2) * r + _E3) * r + _E4) * r + _E5
    result = (p * r * r + r + _ONE) * float_of_bits(np.int32((power + _BIAS) << _PLACES))
    return result if x > _LOWEST else _ZERO


@as_written
def log(x: np.float32) -> np.float32:
    """The natural logarithm of a normal positive number."""
    bits = bits_of_float(x)
    power = np.int32(np.int32(bits >> _PLACES) - _BIAS_OF_HALF)
    m = float_of_bits(np.int32(np.int32(bits & _FRACTION) | _EXPONENT_OF_HALF))
    low = m < _ROOT
    whole = np.float32(power) - (_ONE if low else _ZERO)
    r = (m + m if low else m) - _ONE
    z = r * r
    p = (((_L0 * r + _L1) * r + _L2) * r + _L3) * r + _L4
    p = (((p * r + _L5) * r + _L6) * r + _L7) * r + _L8
    return r + (r * z * p + whole * _LN2_LOW - _HALF * z) + whole * _LN2_HIGH


@compiled
def sigmoid(x: np.float32) -> np.float32:
    return _ONE / (_ONE + exp(-x))


@compiled
def dot(a: NDArray[np.float32], b: NDArray[np.float32]) -> np.float32:
    total = _ZERO
    for k in range(len(b)):
        total += a[k] * b[k]
    return total


@compiled
def whole_dot(a: NDArray[np.int8], b: NDArray[np.int16]) -> np.int32:
    """The inner product of whole numbers. Python's sums would be of 64 bits, in half the lanes."""
    total = np.int32(0)
    for k in range(len(b)):
        total = np.int32(total + np.int32(np.int32(a[k]) * np.int32(b[k])))
    return total


@compiled
def normalise(x: NDArray[np.float32], scale: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Root mean square normalisation of a vector."""
    factor = _ONE / np.sqrt(dot(x, x) / np.float32(len(x)) + _TINY)
    for k in range(len(scale)):
        out[k] = x[k] * factor * scale[k]


@compiled
def multiply(x: NDArray[np.float32], w: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """out = x @ w, tile by tile. The last ones of each direction overlap those before."""
    rows, width = len(x), w.shape[1]
    if rows < tiles.ROWS or width < tiles.COLUMNS:
        for i in range(rows):
            multiply_one(x[i], w, out[i])
        return
    for j in range(0, width, tiles.COLUMNS):
        column = min(j, width - tiles.COLUMNS)
        for i in range(0, rows, tiles.ROWS):
            tiles.tile(x, w, out, min(i, rows - tiles.ROWS), column)


@compiled
def multiply_one(a: NDArray[np.float32], w: NDArray[np.float32], c: NDArray[np.float32]) -> None:
    """c = a @ w for one vector."""
    inner, width = len(w), w.shape[1]
    for j in range(width):
        c[j] = _ZERO
    for k in range(0, inner - 3, 4):
        w0, w1, w2, w3 = w[k], w[k + 1], w[k + 2], w[k + 3]
        a0, a1, a2, a3 = a[k], a[k + 1], a[k + 2], a[k + 3]
        for j in range(width):
            c[j] += a0 * w0[j] + a1 * w1[j] + a2 * w2[j] + a3 * w3[j]
    for k in range(inner - inner % 4, inner):
        w0, a0 = w[k], a[k]
        for j in range(width):
            c[j] += a0 * w0[j]
