"""Arrays of a model by their addresses, in a table that a kernel gets as one argument.

Each array of a kernel's arguments costs a tenth of a microsecond, and a model has a hundred.
A table's row holds pairs: an array's address and its length. Python keeps the arrays.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray


@intrinsic
def _pointer(typing: Any, address: Any) -> Any:  # noqa: ARG001
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), generate


@intrinsic
def float_of_bits(typing: Any, bits: Any) -> Any:  # noqa: ARG001
    """The float32 of these 32 bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@intrinsic
def bits_of_float(typing: Any, number: Any) -> Any:  # noqa: ARG001
    """The 32 bits of a float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


@intrinsic
def bits_of_double(typing: Any, number: Any) -> Any:  # noqa: ARG001
    """The 64 bits of a float64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.int64(types.float64), generate


@intrinsic
def lowest_bit(typing: Any, word: Any) -> Any:  # noqa: ARG001
    """The place of the lowest bit that is set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), generate


@intrinsic
def prefetch(typing: Any, address: Any) -> Any:  # noqa: ARG001
    """Have the processor load what lies at an address, which may be any, while it goes on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        place, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        takes = ir.FunctionType(ir.VoidType(), [place, number, number, number])
        load = builder.module.declare_intrinsic("llvm.prefetch", (place,), takes)
        # For reading, to be kept in all caches, data.
        flags = [number(0), number(3), number(1)]
        builder.call(load, [builder.inttoptr(arguments[0], place), *flags])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@njit(inline="always")
def floats(row: NDArray[np.int64], at: int) -> NDArray[np.float32]:
    return carray(_pointer(row[at]), (row[at + 1],), np.float32)


@njit(inline="always")
def matrix(row: NDArray[np.int64], at: int, width: int) -> NDArray[np.float32]:
    """An array of float32 in rows of a width."""
    return carray(_pointer(row[at]), (row[at + 1] // width, width), np.float32)


@njit(inline="always")
def ints(row: NDArray[np.int64], at: int) -> NDArray[np.int32]:
    return carray(_pointer(row[at]), (row[at + 1],), np.int32)


@njit(inline="always")
def longs(row: NDArray[np.int64], at: int) -> NDArray[np.int64]:
    return carray(_pointer(row[at]), (row[at + 1],), np.int64)


@njit(inline="always")
def small_ints(row: NDArray[np.int64], at: int, width: int) -> NDArray[np.int8]:
    """An array of int8 in rows of a width."""
    return carray(_pointer(row[at]), (row[at + 1] // width, width), np.int8)
