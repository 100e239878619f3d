"""Attributes of items that other services read, each in its one form. All others are free."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from slipstream.contracts.item_names import item_field
from slipstream.contracts.spellings import truth_of
from slipstream.ingress.fields import as_millis
from slipstream.ingress.rejections import Code, RejectionError


def check_item_attributes(attributes: dict[str, Any], path_of: Callable[[str], str]) -> None:
    """Reject an item whose attributes have a wrong form; null is as good as missing.

    Args:
        attributes: All attributes of the item, by name.
        path_of: Gives an attribute's path in the data as it was sent, for the rejection.
    """
    for name, check in _CHECKS.items():
        if (value := attributes.get(name)) is not None:
            check(value, path_of(name))


def told_availability(attributes: Mapping[str, Any]) -> bool | None:
    """Whether an item may be recommended by an attribute of another name: `in_stock: false`.

    None where no attribute says so.
    """
    told = (truth_of(attributes[n]) for n in attributes if item_field(n) == "available")
    return next((truth for truth in told if truth is not None), None)


def naming_hints(attributes: Mapping[str, Any]) -> list[str]:
    """Hints about attributes that other services read, but under another name than was sent."""
    hints = []
    for name in attributes:
        field = item_field(name)
        if field is None or field in attributes or field == "item_id":
            continue
        if field != "available":
            hints.append(f"{name} is kept under this name; what is read as {field} is `{field}`")
        elif truth_of(attributes[name]) is None:
            hints.append(f"{name} is neither true nor false, so it says nothing of `available`")
        else:
            hints.append(f"{name} is read as `available`")
    return hints


def _price(value: Any, field: str) -> None:
    if type(value) not in (int, float) or not value >= 0:
        raise RejectionError(
            Code.INVALID_VALUE,
            f"{field} must be a number of at least 0; its currency goes beside it: `currency`",
            field,
        )


def _text(value: Any, field: str) -> None:
    if type(value) is not str:
        raise RejectionError(Code.INVALID_VALUE, f"{field} must be a string", field)


def _texts(value: Any, field: str) -> None:
    if type(value) is not list or any(type(text) is not str for text in value):
        raise RejectionError(Code.INVALID_VALUE, f"{field} must be a list of strings", field)


_CHECKS: Final[dict[str, Callable[[Any, str], object]]] = {
    "title": _text,
    "description": _text,
    "categories": _texts,
    "price": _price,
    "image_url": _text,
    "expires_at": as_millis,
}
