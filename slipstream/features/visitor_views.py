"""Views of a visitor: what the stream keeps, the session, and affinities."""

from collections.abc import Sequence
from typing import Final

from slipstream.features.declarations import COUNTED, DAY_S, Feature, FeatureView

# Attributes of items that have affinities by default.
AFFINITY_ATTRIBUTES: Final = ("category", "brand")
_SPANS: Final = {"1h": "hour", "1d": "24 hours", "7d": "7 days", "30d": "30 days"}

VISITOR: Final = FeatureView(
    "visitor",
    "a visitor's recent sequence, counts over windows, and recency",
    "stored",
    "visitor",
    ("user_id",),
    (
        Feature(
            "history_length", "Int64", 0, "events on items in the recent sequence, at most 100"
        ),
        Feature("distinct_items", "Int64", 0, "different items in the recent sequence"),
        *(
            Feature(f"events_{s}", "Int64", 0, f"events in the last {words}, without impressions")
            for s, words in _SPANS.items()
        ),
        Feature(
            "hours_since_last",
            "Float64",
            -1.0,
            "hours since the last event of any type; -1 when there is none",
        ),
        Feature("events", "Int64", 0, "events ever, without impressions"),
        *(Feature(name, "Int64", 0, f"{name} ever") for name in COUNTED),
        *(
            Feature(f"{name}_{span}", "Int64", 0, f"{name} in the last {words}")
            for name in COUNTED
            for span, words in _SPANS.items()
        ),
        *(
            Feature(
                f"hours_since_{kind}",
                "Float64",
                -1.0,
                f"hours since the last {kind}; -1 when there is none",
            )
            for kind in ("view", "click", "cart", "purchase")
        ),
        Feature(
            "recent_items",
            "Array(String)",
            (),
            "the items of the recent sequence, oldest first, at most 100",
        ),
        Feature("recent_types", "Array(String)", (), "the event type of each"),
        Feature("recent_times", "Array(Int64)", (), "the time of each, in ms since the epoch"),
    ),
    ttl_s=90 * DAY_S,
)

SESSION: Final = FeatureView(
    "session",
    "a visitor's current visit: the newest events on items with gaps under 30 minutes, also to now",
    "derived",
    "visitor",
    ("user_id",),
    (
        Feature("active", "Int64", 0, "1 while the visitor is in a session"),
        Feature("events", "Int64", 0, "events on items, at most 100"),
        Feature("distinct_items", "Int64", 0, "different items"),
        Feature("views", "Int64", 0, "views"),
        Feature("carts", "Int64", 0, "carts"),
        Feature("purchases", "Int64", 0, "purchases"),
        Feature("minutes", "Float64", 0.0, "minutes from its first event to its last"),
        Feature(
            "minutes_since_last",
            "Float64",
            -1.0,
            "minutes since its last event; -1 without a session",
        ),
        Feature("items", "Array(String)", (), "its items, the newest first, each once, at most 20"),
    ),
    ttl_s=90 * DAY_S,
)


def affinity_view(attributes: Sequence[str] = AFFINITY_ATTRIBUTES) -> FeatureView:
    """The view of affinities to the values of these attributes of items, and to prices."""
    fields = [
        feature
        for name in attributes
        for feature in (
            Feature(
                f"top_{name}",
                "String",
                "",
                f"the {name} with the strongest affinity; empty when not known",
            ),
            Feature(
                f"{name}_values",
                "Array(String)",
                (),
                f"values of {name}, strongest affinity first, at most 10",
            ),
            Feature(
                f"{name}_shares",
                "Array(Float64)",
                (),
                "the share of each, by event type, with a half-life of 14 days",
            ),
        )
    ]
    prices = {"low": "lower quartile", "typical": "median", "high": "upper quartile"}
    return FeatureView(
        "visitor_affinity",
        "attributes of items and prices that a visitor prefers, by the recent sequence and today's "
        "catalogue; an item without `category` counts by its `categories`",
        "derived",
        "visitor",
        ("user_id",),
        (
            *fields,
            *(
                Feature(
                    f"price_{name}",
                    "Float64",
                    -1.0,
                    f"{words} of the prices that the visitor dealt with; -1: none known",
                )
                for name, words in prices.items()
            ),
        ),
        ttl_s=90 * DAY_S,
    )
