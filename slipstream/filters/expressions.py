"""Filter expressions: `categories == "shoes" and price < 100 and brand not in seen`.

The syntax is a part of Python's, and Python's parser reads it; nothing is ever evaluated by Python.
The parts that it may have are listed in docs/filters.md. In a body or query an expression is a type
of its own, checked when it is read.
"""

import ast
import re
from functools import lru_cache
from typing import Annotated, Final, NamedTuple

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from slipstream.contracts.times import DAY_MS, HOUR_MS, parse_iso
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
    at,
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
_NO_NUMBER = "only numbers and times have an order; texts can be compared by == and !="
_NOW: Final = "now"
# The days since `published_at`, as an attribute.
_AGE: Final = "age_days"
_PUBLISHED: Final = "published_at"
# A span of time such as 14d, outside texts. Python reads its digits as 14j, which has as many
# characters, so that positions stay what they are.
_SPAN: Final = re.compile(
    r""""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|(?<![\w.])(\d+(?:\.\d+)?)([smhdw])(?!\w)"""
)
_UNITS_MS: Final = {"s": 1_000, "m": 60_000, "h": HOUR_MS, "d": DAY_MS, "w": 7 * DAY_MS}
_SPAN_ALONE = "a span of time comes after now, as in `now - 14d`"


class Moment(NamedTuple):
    """A time in ms from that of the request."""

    since_now: float


Value = str | float | Moment | None


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
        tree = ast.parse(_SPAN.sub(_as_python, line.strip()), mode="eval")
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


def parsed_at(expression: str, now_ms: int) -> Condition:
    """The condition that an expression states for a request of this time. Raises FilterError."""
    condition = parsed(expression)
    return at(condition, now_ms) if tells_time(expression) else condition


def tells_time(expression: str) -> bool:
    """Whether an expression may compare with the time of the request."""
    return _NOW in expression or _AGE in expression


def _as_python(match: re.Match[str]) -> str:
    return f"{match[1]}j" if match[1] else match[0]


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
            return self._ordered(name, order, wanted, value)
        if isinstance(wanted, Moment) or name == _AGE:
            raise self._error("a time is compared by <, <=, > and >=", value)
        same = Missing(name) if wanted is None else OneOf(name, frozenset({wanted}))
        return Not(same) if isinstance(op, ast.NotEq | ast.IsNot) else same

    def _ordered(self, name: str, order: Order, wanted: Value, node: ast.expr) -> Condition:
        if isinstance(wanted, str):
            try:
                wanted = float(parse_iso(wanted))
            except ValueError:
                raise self._error(_NO_NUMBER, node) from None
        if name == _AGE and isinstance(wanted, float):
            return Compared(_PUBLISHED, _TURNED[order], -wanted * DAY_MS, since_now=True)
        if isinstance(wanted, Moment) and name != _AGE:
            return Compared(name, order, wanted.since_now, since_now=True)
        if not isinstance(wanted, float):
            raise self._error(_NO_NUMBER, node)
        return Compared(name, order, wanted)

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
        if name == _AGE or any(isinstance(value, Moment) for value in values):
            raise self._error("a time is compared by <, <=, > and >=", nodes[0])
        found = OneOf(name, frozenset(value for value in values if isinstance(value, str | float)))
        return Any((found, Missing(name))) if None in values else found

    def _is_attribute(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Subscript) or (
            isinstance(node, ast.Name) and node.id not in _LITERALS and node.id != _NOW
        )

    def _attribute(self, node: ast.expr) -> str:
        match node:
            case ast.Name(id=name) if name == _NOW:
                raise self._error("`now` is compared with, as in `published_at > now - 14d`", node)
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
            case ast.Name(id=name) if name == _NOW:
                return Moment(0.0)
            case ast.BinOp(left=ast.Name(id="now"), op=ast.Add() | ast.Sub() as op, right=span):
                length = self._span(span)
                return Moment(length if isinstance(op, ast.Add) else -length)
            case ast.Constant(value=complex()):
                raise self._error(_SPAN_ALONE, node)
        raise self._error(f"{self._source(node)} is no value: a text, a number, true or null", node)

    def _span(self, node: ast.expr) -> float:
        """The length of a span of time, in ms."""
        unit = self._line[: node.end_col_offset].decode()[-1]
        if not isinstance(node, ast.Constant) or not isinstance(node.value, complex):
            raise self._error(_SPAN_ALONE, node)
        if unit not in _UNITS_MS:
            raise self._error("a span of time ends with s, m, h, d or w", node)
        return node.value.imag * _UNITS_MS[unit]

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
