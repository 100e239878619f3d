"""Mapping of track events' names to types of interactions.

Names are compared in lower case, with everything but letters and digits as `_`. So `Product
Viewed`, `product viewed` and `product_viewed` are equal. A name that is not listed is its own type:
`Video Started` is `video_started`, `click` is `click`.
"""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Final, NamedTuple

import orjson

from services.ingestion.fields import Code, RejectionError
from slipstream.contracts import vocabulary as v

# Segment's e-commerce specification, version 2 and, below it, version 1. Names of it that are
# missing here are their own types: `Cart Viewed`, `Checkout Started`, `Order Updated`, `Coupon
# Applied` and similar events say nothing new about an item.
SEGMENT_NAMES: Final[dict[str, str]] = {
    "products_searched": v.SEARCH,
    "product_list_viewed": v.IMPRESSION,
    "product_list_filtered": v.IMPRESSION,
    "promotion_viewed": v.IMPRESSION,
    "promotion_clicked": v.CLICK,
    "product_clicked": v.CLICK,
    "product_viewed": v.VIEW,
    "product_added": v.CART,
    "product_removed": v.REMOVE,
    "order_completed": v.PURCHASE,
    "order_refunded": v.REMOVE,
    "order_cancelled": v.REMOVE,
    "product_added_to_wishlist": v.WISHLIST,
    "product_removed_from_wishlist": v.REMOVE,
    "wishlist_product_added_to_cart": v.CART,
    "product_shared": "share",
    "product_reviewed": v.RATE,
    "viewed_product_category": v.IMPRESSION,
    "viewed_promotion": v.IMPRESSION,
    "clicked_promotion": v.CLICK,
    "viewed_product": v.VIEW,
    "added_product": v.CART,
    "removed_product": v.REMOVE,
    "completed_order": v.PURCHASE,
    # Outside the specification, and no sign of liking.
    "refund": v.REMOVE,
    "refunded": v.REMOVE,
    "return": v.REMOVE,
    "returned": v.REMOVE,
}
# Names that the specification also allows without products: a whole order's refund, or a category
# without its list. Without products the event is its own type.
WITH_OR_WITHOUT: Final = frozenset(
    {
        "product_list_viewed", "product_list_filtered", "promotion_viewed", "promotion_clicked",
        "order_refunded", "order_cancelled", "viewed_product_category", "viewed_promotion",
        "clicked_promotion", "refund", "refunded", "return", "returned",
    }
)  # fmt: skip

# Names of refunds, which a property marks among removals.
REFUNDS: Final = frozenset(
    {"order_refunded", "order_cancelled", "refund", "refunded", "return", "returned"}
)

# Types of events about an item, which must name it.
OF_AN_ITEM: Final = frozenset(
    {v.VIEW, v.CLICK, v.CART, v.PURCHASE, v.RATE, v.LIKE, v.WISHLIST, v.REMOVE, v.IMPRESSION}
)

_TOKEN = re.compile(r"[a-z][a-z0-9_]{0,63}")
_REMEMBERED = 4096


class EventName(NamedTuple):
    """Meaning of an event's name.

    With `of_an_item`, the event is about an item, or lists `products`, each of which makes an
    interaction. If it names no item, its type is `otherwise`; if that is None, it is rejected. A
    name that is not known has a `remark`.
    """

    event_type: str
    of_an_item: bool
    otherwise: str | None = None
    remark: str = ""


@lru_cache(_REMEMBERED)
def token(name: str) -> str:
    """The one spelling of a name."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


class EventNames:
    """Meanings of names: Segment's, and `added` ones, which take precedence.

    Raises ValueError for a malformed name or type in `added`.
    """

    def __init__(self, added: Mapping[str, str] | None = None) -> None:
        self._added: dict[str, str] = {}
        self._known: dict[str, EventName] = {}
        for name, event_type in (added or {}).items():
            if not (known := token(name)):
                raise ValueError(f"{name!r} has neither letters nor digits")
            if type(event_type) is not str or not _TOKEN.fullmatch(event_type):
                raise ValueError(
                    f"{name!r} must be given a type: at most 64 small letters (a-z), digits and _, "
                    "a letter first"
                )
            if self._added.setdefault(known, event_type) != event_type:
                raise ValueError(f"{name!r} is there twice, spelt in two ways, with two types")

    def classify(self, name: str) -> EventName:
        """The meaning of a track event's name.

        Rejects a name that gives no token of at most 64 letters, digits and `_`.
        """
        known = self._known.get(name)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[name] = self._classify(token(name))
        return known

    def _classify(self, name: str) -> EventName:
        event_type = self._added.get(name) or SEGMENT_NAMES.get(name, name)
        if not _TOKEN.fullmatch(event_type):
            raise RejectionError(
                Code.INVALID_NAME,
                "event must give a name of at most 64 letters (a-z), digits and _, a letter first",
                "event",
            )
        otherwise = name if name in WITH_OR_WITHOUT and name not in self._added else None
        of_an_item = event_type in OF_AN_ITEM
        is_known = event_type in v.SIGNAL_WEIGHTS or name in SEGMENT_NAMES or name in self._added
        return EventName(event_type, of_an_item, otherwise, "" if is_known else _remark(name))


def _remark(name: str) -> str:
    """Words on a name that is not known, for an event about an item."""
    (close,) = get_close_matches(name, [*SEGMENT_NAMES, *OF_AN_ITEM], 1, 0.8) or ("",)
    meant = f"; did you mean {close.replace('_', ' ').title()}?" if close else ""
    return f"{name} is a type of its own, and counts for its item as a view does{meant}"


def read_mapping(data: bytes) -> EventNames:
    """Names from a mapping file, such as `{"Produkt angesehen": "view"}`.

    Raises ValueError, with the reason, for a wrong file.
    """
    try:
        mapping = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from error
    if type(mapping) is not dict:
        raise ValueError("it must be a JSON object of types by event name")
    return EventNames(mapping)
