"""Arithmetic in loops that the compiler turns into lanes: exp, log, products of matrices.

exp and log are Cephes' polynomials for float32 (S. L. Moshier), right to two units in the last
place. The C library's would be called number by number, for five times as long.

A product of matrices is made tile by tile, in vector instructions. A compiler makes lanes of a loop
over columns, and then loads and stores each sum again and again. A tile's sums stay in registers
until they are whole (Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication",
2008).
"""

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from slipstream.models.kernels.compiler import as_written, compiled
from slipstream.models.kernels.memory import bits_of_float, float_of_bits

# Rows and columns of a tile. Its eight sums of eight lanes, two vectors of the right matrix and a
# factor of the left one fit into the sixteen registers of AVX2.
ROWS: Final = 4
LANES: Final = 8
COLUMNS: Final = 2 * LANES
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_FIRST_LANE = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
_FLAGS: Final = ("contract",)


@intrinsic
def tile(typing: Any, x: Any, w: Any, out: Any, row: Any, column: Any) -> Any:  # noqa: ARG001
    """A tile of `out = x @ w`, which begins at a row and a column: contiguous float32 matrices."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        left, right, result = (
            context.make_array(kind)(context, builder, value)
            for kind, value in zip(signature.args[:3], arguments[:3], strict=True)
        )
        inner, width = (builder.extract_value(each.shape, 1) for each in (left, right))
        first, begin = arguments[3:]
        rows = [builder.add(first, first.type(number)) for number in range(ROWS)]
        starts = [builder.gep(left.data, [builder.mul(number, inner)]) for number in rows]
        zero = ir.Constant(_VECTOR, [0.0] * LANES)
        sums = [cgutils.alloca_once_value(builder, zero) for _ in range(2 * ROWS)]
        with cgutils.for_range(builder, inner) as loop:
            begins = builder.add(builder.mul(loop.index, width), begin)
            factors = [_vector(builder, right.data, begins, half) for half in range(2)]
            for number, start in enumerate(starts):
                value = _spread(builder, builder.load(builder.gep(start, [loop.index])))
                for half, factor in enumerate(factors):
                    total = sums[2 * number + half]
                    part = builder.fmul(value, factor, flags=_FLAGS)
                    builder.store(builder.fadd(builder.load(total), part, flags=_FLAGS), total)
        for number, each in enumerate(rows):
            at = builder.add(builder.mul(each, width), begin)
            for half in range(2):
                place = _place(builder, result.data, at, half)
                builder.store(builder.load(sums[2 * number + half]), place, align=4)
        return context.get_dummy_value()

    matrix = types.Array(types.float32, 2, "C")
    return types.void(matrix, matrix, matrix, types.int64, types.int64), generate


def _place(builder: Any, data: Any, at: Any, half: int) -> Any:
    place = builder.gep(data, [builder.add(at, at.type(half * LANES))])
    return builder.bitcast(place, _VECTOR.as_pointer())


def _vector(builder: Any, data: Any, at: Any, half: int) -> Any:
    return builder.load(_place(builder, data, at, half), align=4)


def _spread(builder: Any, value: Any) -> Any:
    nothing = ir.Constant(_VECTOR, ir.Undefined)
    lane = builder.insert_element(nothing, value, ir.IntType(32)(0))
    return builder.shuffle_vector(lane, nothing, _FIRST_LANE)


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
    if rows < ROWS or width < COLUMNS:
        for i in range(rows):
            multiply_one(x[i], w, out[i])
        return
    for j in range(0, width, COLUMNS):
        column = min(j, width - COLUMNS)
        for i in range(0, rows, ROWS):
            tile(x, w, out, min(i, rows - ROWS), column)


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
