"""Names that several services and files must spell alike."""

from collections.abc import Mapping
from typing import Any, Final

VIEW: Final = "view"
CLICK: Final = "click"
CART: Final = "cart"
PURCHASE: Final = "purchase"
RATE: Final = "rate"
LIKE: Final = "like"
WISHLIST: Final = "wishlist"
SEARCH: Final = "search"
IMPRESSION: Final = "impression"
REMOVE: Final = "remove"

# Types that show no liking for an item. They are kept and counted, but neither train a model nor
# enter the sequence that recommendations are made from.
WITHOUT_SIGNAL: Final = frozenset({SEARCH, IMPRESSION, REMOVE})

# Types that count as a conversion of a recommended slate; the others count as clicks.
CONVERSIONS: Final = frozenset({CART, PURCHASE})

# Purposes of an answered slate. Only slates that somebody saw count as impressions: lists of
# `rank` and of the Open Inference Protocol, and lists made ahead of time, may never be shown.
SHOWN: Final = "shown"
RANKED: Final = "ranked"
BATCH: Final = "batch"
# The list of a shadow variant, made after the one that the visitor sees.
SHADOW: Final = "shadow"
# A list that somebody looks at in the visitor's place. It is recorded nowhere.
PREVIEW: Final = "preview"

# Aliases of the registry: the version in service, the newest other one, and one on trial.
CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
CANARY: Final = "canary"
ALIASES: Final = (CHAMPION, CHALLENGER, CANARY)

# The property that tells a refund from other removals.
REFUNDED: Final = "refunded"

# How strongly each type speaks for an item. Custom types, which are not listed, weigh 1.
SIGNAL_WEIGHTS: Final[dict[str, float]] = {
    VIEW: 1.0,
    CLICK: 1.0,
    LIKE: 2.0,
    WISHLIST: 2.0,
    RATE: 1.0,
    CART: 2.0,
    PURCHASE: 3.0,
    SEARCH: 0.0,
    IMPRESSION: 0.0,
    REMOVE: 0.0,
    # Against the item.
    **dict.fromkeys(("dislike", "disliked", "downvote", "thumbs_down"), 0.0),
}

# The attribute of an `identity` record that names the user that a visitor was merged into.
MERGED_INTO: Final = "user_id"

# Longest id of a visitor, an item, an event or a slate, in bytes of UTF-8.
MAX_ID_BYTES: Final = 256

# Attributes that identify an item rather than describe it.
IDENTIFYING: Final = frozenset(
    {"title", "name", "description", "url", "link", "image", "image_url", "sku", "id", "expires_at"}
)

# The highest position in a slate that is accepted.
MAX_POSITION: Final = 2**31 - 1

# Life of what only events have made that nothing learns from, in Redis.
UNLEARNED_TTL_MS: Final = 30 * 60_000

# The greatest value of a purchase that is counted; no sum of them overflows.
MOST_VALUE: Final = 1e9


def signal_weight(event_type: str, value: float | None = None) -> float:
    """The weight of an event for its item: 0 or more, 1 for a custom type.

    A negative opinion weighs nothing: a dislike, a rating of 0 or less, or a negative value.
    """
    if value is not None and (value < 0.0 or (value == 0.0 and event_type == RATE)):
        return 0.0
    return SIGNAL_WEIGHTS.get(event_type, 1.0)


def currency_code(properties: Mapping[str, Any]) -> str:
    """The currency code (ISO 4217) among an event's properties; empty without one."""
    named = properties.get("currency")
    code = named.strip().upper() if isinstance(named, str) else ""
    return code if len(code) == 3 and code.isascii() and code.isalpha() else ""


def is_identifying(attribute: str) -> bool:
    """Whether an attribute of this name identifies an item: nothing is filtered by it."""
    return attribute.lower() in IDENTIFYING
