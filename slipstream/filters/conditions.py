"""The conditions that a filter consists of.

An attribute has a set of values: a number or a category has one, a list has its categories, and an
item without the attribute has none.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

# A name that stands for the item itself in place of an attribute.
ITEM_ID = "item_id"


class Order(StrEnum):
    """A comparison of numbers by size."""

    LESS = "<"
    AT_MOST = "<="
    MORE = ">"
    AT_LEAST = ">="


class Own(StrEnum):
    """Items that a visitor has to do with."""

    SEEN = "seen"
    BOUGHT = "bought"


@dataclass(frozen=True, slots=True)
class Constant:
    """The same for every item."""

    holds: bool


@dataclass(frozen=True, slots=True)
class Present:
    """Whether the attribute has a value, other than 0 where it is a number."""

    attribute: str


@dataclass(frozen=True, slots=True)
class Missing:
    """Whether the attribute has no value."""

    attribute: str


@dataclass(frozen=True, slots=True)
class OneOf:
    """Whether one of the attribute's values is one of these."""

    attribute: str
    values: frozenset[str | float]


@dataclass(frozen=True, slots=True)
class Compared:
    """Whether the attribute is a number that compares so with this one.

    With `since_now` the number counts in ms from the time of the request (`at`).
    """

    attribute: str
    order: Order
    number: float
    since_now: bool = False


@dataclass(frozen=True, slots=True)
class SharedWith:
    """Whether one of the attribute's values is one of an item that the visitor has to do with."""

    attribute: str
    own: Own


@dataclass(frozen=True, slots=True)
class Not:
    """Whether a condition does not hold."""

    condition: "Condition"


@dataclass(frozen=True, slots=True)
class All:
    """Whether all conditions hold."""

    conditions: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class Any:
    """Whether one of the conditions holds."""

    conditions: tuple["Condition", ...]


Condition = Constant | Present | Missing | OneOf | Compared | SharedWith | Not | All | Any


def depends_on_visitor(condition: Condition) -> bool:
    """Whether the condition differs between visitors."""
    match condition:
        case SharedWith():
            return True
        case Not(inner):
            return depends_on_visitor(inner)
        case All(inner) | Any(inner):
            return any(depends_on_visitor(each) for each in inner)
    return False


def attributes_of(condition: Condition) -> set[str]:
    """The attributes that a condition names."""
    match condition:
        case Constant():
            return set()
        case Not(inner):
            return attributes_of(inner)
        case All(inner) | Any(inner):
            return set[str]().union(*map(attributes_of, inner))
    return {condition.attribute} - {ITEM_ID}


# Steps of the time of requests, so that those of one minute share their masks.
_STEP_MS: Final = 60_000


def at(condition: Condition, now_ms: int) -> Condition:
    """The condition with `now` as the minute in which this moment is."""
    match condition:
        case Compared(since_now=True):
            moment = now_ms // _STEP_MS * _STEP_MS
            return replace(condition, number=moment + condition.number, since_now=False)
        case Not(inner):
            return Not(at(inner, now_ms))
        case All(inner):
            return All(tuple(at(each, now_ms) for each in inner))
        case Any(inner):
            return Any(tuple(at(each, now_ms) for each in inner))
    return condition
