"""Attributes of items that other services read, each in its one form. All others are free."""

from collections.abc import Callable
from typing import Any, Final

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


def _price(value: Any, field: str) -> None:
    if type(value) not in (int, float) or not value >= 0:
        raise RejectionError(Code.INVALID_VALUE, f"{field} must be a number of at least 0", field)


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
