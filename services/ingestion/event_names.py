"""From the name of a track event to an interaction's type.

Names are compared in lower case with everything but letters and digits as `_`, so that `Product Viewed`, `product viewed` and
`product_viewed` are one. A name that is not listed is its own type: `Video Started` is `video_started`, `click` is `click`.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple

from services.ingestion.verdicts import Code, RejectedError
from slipstream.contracts import vocabulary as v

#: Segment's e-commerce specification, version 2 and, below it, version 1.
SEGMENT_NAMES: Final[dict[str, str]] = {
    "products_searched": v.SEARCH,
    "product_list_viewed": v.IMPRESSION,
    "product_list_filtered": v.IMPRESSION,
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
    "product_reviewed": v.RATE,
    "viewed_product_category": v.IMPRESSION,
    "viewed_product": v.VIEW,
    "added_product": v.CART,
    "removed_product": v.REMOVE,
    "completed_order": v.PURCHASE,
}

#: Types that say something of an item, and so must name one.
OF_AN_ITEM: Final = frozenset({v.VIEW, v.CLICK, v.CART, v.PURCHASE, v.RATE, v.LIKE, v.WISHLIST, v.REMOVE, v.IMPRESSION})

_TOKEN = re.compile(r"[a-z][a-z0-9_]{0,63}")


class EventName(NamedTuple):
    """What a name means. `of_an_item`: the event must name an item, or list `products`, each of which makes an interaction."""

    event_type: str
    of_an_item: bool


@lru_cache(4096)
def classify(name: str) -> EventName:
    """The type for a track event's name; rejects one that gives no token of at most 64 letters, digits and `_`."""
    token = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    event_type = SEGMENT_NAMES.get(token, token)
    if not _TOKEN.fullmatch(event_type):
        raise RejectedError(
            Code.INVALID_NAME, "event must give a name of at most 64 letters (a-z), digits and _, a letter first", "event"
        )
    return EventName(event_type, event_type in OF_AN_ITEM)
