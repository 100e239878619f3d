"""Filter expressions: `categories == "shoes" and price < 100 and brand not in seen`.

The syntax is a part of Python's, and Python's parser reads it; nothing is ever evaluated by Python.
The parts that it may have are listed in docs/filters.md. In a body or query an expression is a type
of its own, checked when it is read.
"""

import ast
from functools import lru_cache
from typing import Annotated, Final

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from slipstream.contracts.vocabulary import is_identifying
from slipstream.filters.conditions import (
    ITEM_ID,
    All,
    Any,
    Compared,
    Condition,
    Constant,
    Missing,
    Not,
    OneOf,
    Order,
    Own,
    Present,
    SharedWith,
)

LONGEST: Final = 2_000
# Most conditions and values compared with: what a mask costs is bounded before it is made.
MOST_PARTS: Final = 200
_LITERALS: Final = {"true": True, "false": False, "null": None, "none": None}
_ORDERS: Final[dict[type[ast.cmpop], Order]] = {
    ast.Lt: Order.LESS,
    ast.LtE: Order.AT_MOST,
    ast.Gt: Order.MORE,
    ast.GtE: Order.AT_LEAST,
}
_TURNED: Final = {
    Order.LESS: Order.MORE,
    Order.AT_MOST: Order.AT_LEAST,
    Order.MORE: Order.LESS,
    Order.AT_LEAST: Order.AT_MOST,
}
_OWN: Final = {own.value: own for own in Own}
_NO_NUMBER = "only numbers have an order; texts can be compared by == and !="

Value = str | float | None


class FilterError(ValueError):
    """An expression that is no filter. `position` is the place of the fault, from 0."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(f"{message} (at position {position})")
        self.position = position


@lru_cache(maxsize=1_000)
def parsed(expression: str, *, of_context: bool = False) -> Condition:
    """The condition that an expression states. Raises FilterError.

    One `of_context` is over a request's context, which has no items: `seen` and `bought` are
    refused.
    """
    if len(expression) > LONGEST:
        raise FilterError(f"a filter has at most {LONGEST} characters", LONGEST)
    # Line breaks would end a Python expression, and positions count them as one character.
    line = "".join(" " if character.isspace() else character for character in expression)
    start = len(line) - len(line.lstrip())
    try:
        tree = ast.parse(line.strip(), mode="eval")
    except SyntaxError as error:
        # Python puts what is missing at the end on a line of its own.
        ended = error.lineno != 1 or not error.offset
        at = start + (len(line.strip()) if ended else (error.offset or 1) - 1)
        raise FilterError(_words_of(error), min(at, len(expression))) from None
    except (RecursionError, MemoryError, ValueError, OverflowError):
        raise FilterError(
            "the filter can't be read: it is too deep, or has odd characters", 0
        ) from None
    return _Reader(line.strip(), start, of_context).condition(tree.body)


def _words_of(error: SyntaxError) -> str:
    hint = ""
    text = error.text or ""
    if "&&" in text or "||" in text or "=" in text.replace("==", "").replace("!=", ""):
        hint = "; write `and`, `or`, `not`, `==`, `!=`"
    return f"{error.msg}{hint}"


class _Reader:
    """Reads the tree of one expression; refuses every part that is not listed here."""

    def __init__(self, line: str, start: int, of_context: bool) -> None:
        self._line, self._start, self._of_context = line.encode(), start, of_context
        self._parts = 0

    def condition(self, node: ast.expr) -> Condition:
        self._count(node)
        match node:
            case ast.BoolOp(op=ast.And(), values=values):
                return All(tuple(self.condition(each) for each in values))
            case ast.BoolOp(values=values):
                return Any(tuple(self.condition(each) for each in values))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return Not(self.condition(operand))
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                operands = [left, *comparators]
                pairs = zip(operands, ops, comparators, strict=False)
                compared = [self._compared(one, op, other) for one, op, other in pairs]
                return compared[0] if len(compared) == 1 else All(tuple(compared))
            case ast.Constant(value=bool(value)):
                return Constant(value)
            case ast.Name(id=name) if name in _LITERALS:
                return Constant(bool(_LITERALS[name]))
            case ast.Name() | ast.Subscript():
                return Present(self._attribute(node))
        raise self._error(f"{self._source(node)} is no condition", node)

    def _compared(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Condition:
        self._count(right)
        if isinstance(op, ast.In | ast.NotIn):
            condition = self._contained(left, right)
            return Not(condition) if isinstance(op, ast.NotIn) else condition
        named = self._is_attribute(left)
        for side in (left, right):
            if not self._is_attribute(side):
                self._value(side)
        if named == self._is_attribute(right):
            raise self._error("one side of a comparison is an attribute, the other a value", right)
        attribute, value = (left, right) if named else (right, left)
        name, wanted = self._attribute(attribute), self._value(value)
        if type(op) in _ORDERS:
            order = _ORDERS[type(op)] if named else _TURNED[_ORDERS[type(op)]]
            if not isinstance(wanted, float):
                raise self._error(_NO_NUMBER, value)
            return Compared(name, order, wanted)
        same = Missing(name) if wanted is None else OneOf(name, frozenset({wanted}))
        return Not(same) if isinstance(op, ast.NotEq | ast.IsNot) else same

    def _contained(self, left: ast.expr, right: ast.expr) -> Condition:
        """`attribute in [values]`, `attribute in seen`, or `value in attribute`."""
        if not self._is_attribute(left):
            if not self._is_attribute(right):
                raise self._error("one side of `in` is an attribute", right)
            return self._one_of(self._attribute(right), [left])
        name = self._attribute(left)
        if isinstance(right, ast.List | ast.Tuple | ast.Set):
            return self._one_of(name, right.elts)
        if isinstance(right, ast.Name) and right.id in _OWN:
            if self._of_context:
                raise self._error(f"a request's context has no items that are {right.id}", right)
            return SharedWith(name, _OWN[right.id])
        raise self._error("after `in` comes a list such as [1, 2], or `seen` or `bought`", right)

    def _one_of(self, name: str, nodes: list[ast.expr]) -> Condition:
        values = {self._value(each) for each in nodes}
        found = OneOf(name, frozenset(value for value in values if value is not None))
        return Any((found, Missing(name))) if None in values else found

    def _is_attribute(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Subscript) or (
            isinstance(node, ast.Name) and node.id not in _LITERALS
        )

    def _attribute(self, node: ast.expr) -> str:
        match node:
            case ast.Name(id=name) if name in _OWN:
                raise self._error(f"`{name}` comes after `in`, as in `item_id in {name}`", node)
            case ast.Name(id=name):
                pass
            case ast.Subscript(value=ast.Name(id="item"), slice=ast.Constant(value=str(name))):
                pass
            case _:
                raise self._error('an attribute is a name, or item["any name"]', node)
        if name != ITEM_ID and is_identifying(name):
            raise self._error(f"{name} says which item it is: filter by {ITEM_ID}", node)
        return name

    def _value(self, node: ast.expr) -> Value:
        match node:
            case ast.Constant(value=str(value)):
                return value
            case ast.Constant(value=None):
                return None
            case ast.Constant(value=bool() | int() | float() as number):
                return self._number(number, node)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return -self._number(number, node)
            case ast.Name(id=name) if name in _LITERALS:
                literal = _LITERALS[name]
                return None if literal is None else float(literal)
        raise self._error(f"{self._source(node)} is no value: a text, a number, true or null", node)

    def _number(self, number: float, node: ast.expr) -> float:
        try:
            return float(number)
        except OverflowError:
            raise self._error("the number is too large", node) from None

    def _count(self, node: ast.expr) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise self._error(f"a filter has at most {MOST_PARTS} parts", node)

    def _source(self, node: ast.expr) -> str:
        return f"`{self._line[node.col_offset : node.end_col_offset].decode()[:40]}`"

    def _error(self, message: str, node: ast.expr) -> FilterError:
        # Python counts the bytes of UTF-8, people count characters.
        return FilterError(message, self._start + len(self._line[: node.col_offset].decode()))


def _checked(expression: str) -> str:
    if expression:
        try:
            parsed(expression)
        except FilterError as error:
            raise PydanticCustomError(
                "invalid_filter", "{words}", {"words": str(error), "position": error.position}
            ) from error
    return expression


FilterText = Annotated[
    str,
    AfterValidator(_checked),
    Field(
        max_length=LONGEST,
        description='what the items must meet, such as `categories == "shoes" and price < 100` '
        "(docs/filters.md)",
    ),
]
