"""Tiles of a product of matrices, as vector instructions.

A compiler makes lanes of a loop over columns, and then loads and stores each sum again and again. A
tile's sums stay in registers until they are whole (Goto and van de Geijn, "Anatomy of
High-Performance Matrix Multiplication", 2008).
"""

from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

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
