"""Registry of feature views and services, which serving, training and the API read.

A view declares its features with type, default and time to live; a service is a named group of
features. `docs/features.md` is generated from here. A view is `stored` (read off a state that the
stream keeps), `derived` (computed from states and the catalogue when it is requested) or `request`
(needs the request, too).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from slipstream.features import item

DAY_S: Final = 86_400
# The names of Feast's types.
DType = Literal["Int64", "Float64", "String", "Array(String)", "Array(Int64)", "Array(Float64)"]
# The counts by type that visitors and items have.
COUNTED: Final = ("views", "clicks", "carts", "purchases", "impressions")


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature. `default` stands for an entity that was never seen."""

    name: str
    dtype: DType
    default: Any
    description: str


@dataclass(frozen=True, slots=True)
class FeatureView:
    """Features of one kind of entity.

    A value is stale, and not served as present, `ttl_s` after the entity's last event.
    """

    name: str
    description: str
    kind: Literal["stored", "derived", "request"]
    entity: str
    join_keys: tuple[str, ...]
    fields: tuple[Feature, ...]
    ttl_s: int

    @property
    def join_key(self) -> str:
        """The key of the state that the view is read off."""
        return self.join_keys[0]

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.fields)

    @property
    def numbers(self) -> tuple[str, ...]:
        """The features that are numbers, not texts or lists."""
        return tuple(
            feature.name for feature in self.fields if feature.dtype in ("Int64", "Float64")
        )


@dataclass(frozen=True, slots=True)
class FeatureService:
    """A named group of features, each as "view:feature"."""

    name: str
    description: str
    features: tuple[str, ...]

    def of(self, view: FeatureView) -> tuple[str, ...]:
        """The names of the group's features of a view."""
        return tuple(
            name
            for of_view, _, name in (reference.partition(":") for reference in self.features)
            if of_view == view.name
        )


@dataclass(frozen=True, slots=True)
class FeatureRegistry:
    """All declared views and services, and the attributes that have affinities."""

    views: tuple[FeatureView, ...]
    services: tuple[FeatureService, ...]
    affinity_attributes: tuple[str, ...]


_WINDOWS: Final = {
    "1d": "in this hour and the 23 before it",
    "7d": "in this day (UTC) and the 6 before it",
    "30d": "in this day (UTC) and the 29 before it",
}

ITEM: Final = FeatureView(
    "item",
    "an item's counts and rates, over windows and ever, popularity, and age",
    "stored",
    "item",
    ("item_id",),
    (
        *(Feature(name, "Int64", 0, f"{name} ever") for name in COUNTED),
        Feature(
            "popularity",
            "Float64",
            0.0,
            "events by the weight of their type, decayed with a half-life of 7 days",
        ),
        *(
            Feature(f"events_{span}", "Int64", 0, f"events with signal {words}")
            for span, words in _WINDOWS.items()
        ),
        *(
            Feature(f"{name}_{span}", "Int64", 0, f"{name} {words}")
            for name in COUNTED
            for span, words in _WINDOWS.items()
        ),
        *(
            Feature(
                f"click_through{suffix}",
                "Float64",
                item.smoothed(0, 0, item.CLICK_THROUGH),
                f"clicks an impression {words}, smoothed by Beta(1, 19): 5 % before the first "
                "impression",
            )
            for suffix, words in (
                ("", "ever"),
                ("_7d", _WINDOWS["7d"]),
                ("_30d", _WINDOWS["30d"]),
            )
        ),
        *(
            Feature(
                f"conversion{suffix}",
                "Float64",
                item.smoothed(0, 0, item.CONVERSION),
                f"purchases a view or click {words}, smoothed by Beta(1, 49): 2 % before the first",
            )
            for suffix, words in (
                ("", "ever"),
                ("_7d", _WINDOWS["7d"]),
                ("_30d", _WINDOWS["30d"]),
            )
        ),
        Feature(
            "momentum",
            "Float64",
            1.0,
            "events of this day by those of a day of the last 7: "
            "(1 + events_1d) / (1 + events_7d / 7)",
        ),
        Feature("age_hours", "Float64", -1.0, "hours since the first event; -1 when there is none"),
        Feature(
            "hours_since_last", "Float64", -1.0, "hours since the last event; -1 when there is none"
        ),
    ),
    ttl_s=180 * DAY_S,
)

ITEM_NEIGHBOURS: Final = FeatureView(
    "item_neighbours",
    "the items that visitors visit within 30 minutes of this one",
    "stored",
    "item",
    ("item_id",),
    (
        Feature(
            "neighbours", "Array(String)", (), "the items, most visited together first, at most 20"
        ),
        Feature(
            "neighbour_weights",
            "Array(Float64)",
            (),
            "visits together of each, decayed with a half-life of 14 days",
        ),
    ),
    ttl_s=180 * DAY_S,
)


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


REQUEST: Final = FeatureView(
    "request",
    "what only a request tells: its moment, and its item compared with the visitor",
    "request",
    "request",
    ("user_id", "item_id"),
    (
        Feature(
            "hour_of_day",
            "Int64",
            0,
            "hour of the request's day, 0 to 23 (UTC, or by the request's `utc_offset_minutes`)",
        ),
        Feature("day_of_week", "Int64", 0, "day of the request's week, 0 is Monday"),
        Feature(
            "days_since_last_visit",
            "Float64",
            -1.0,
            "days since the visitor's last event; -1 when there is none",
        ),
        Feature("item_price", "Float64", -1.0, "the item's price; -1 when it is not known"),
        Feature(
            "price_to_typical",
            "Float64",
            -1.0,
            "the item's price by the visitor's typical price; -1 when one is not known",
        ),
        Feature(
            "in_price_band",
            "Int64",
            -1,
            "1 when the item's price is in the visitor's price band, else 0; -1 when not known",
        ),
        Feature(
            "item_events", "Int64", 0, "how often the item is in the visitor's recent sequence"
        ),
        Feature(
            "item_affinity",
            "Float64",
            0.0,
            "the visitor's affinity to the item's category (the first attribute configured)",
        ),
    ),
    ttl_s=90 * DAY_S,
)

# Features that serving records with each slate. The lake keeps them for people: no program of ours
# reads them.
RECOMMENDER: Final = FeatureService(
    "recommender",
    "features of visitors that are recorded with each slate",
    tuple(
        f"visitor:{name}"
        for name in (
            "history_length",
            "distinct_items",
            "events_1h",
            "events_1d",
            "events_7d",
            "hours_since_last",
            "views",
            "purchases",
        )
    ),
)


def declare(affinity_attributes: Sequence[str] = AFFINITY_ATTRIBUTES) -> FeatureRegistry:
    """The registry of all views and services, with affinities to these attributes of items."""
    attributes = tuple(dict.fromkeys(affinity_attributes))
    affinity = affinity_view(attributes)
    ranking = FeatureService(
        "ranking",
        "numbers of a visitor, an item and a request, for a ranking model of your own",
        (
            *(f"visitor:{name}" for name in VISITOR.numbers),
            *(f"item:{name}" for name in ITEM.numbers),
            *(f"request:{name}" for name in REQUEST.numbers),
        ),
    )
    profile = FeatureService(
        "profile",
        "all features of a visitor",
        tuple(
            f"{view.name}:{name}"
            for view in (VISITOR, SESSION, affinity)
            for name in view.feature_names
        ),
    )
    item_page = FeatureService(
        "item_page",
        "features for the page of an item",
        (
            *(
                f"item:{name}"
                for name in (
                    "popularity",
                    "views_1d",
                    "purchases_7d",
                    "click_through_30d",
                    "conversion_30d",
                )
            ),
            *(f"item_neighbours:{name}" for name in ITEM_NEIGHBOURS.feature_names),
        ),
    )
    views = (VISITOR, SESSION, affinity, ITEM, ITEM_NEIGHBOURS, REQUEST)
    return FeatureRegistry(views, (RECOMMENDER, ranking, profile, item_page), attributes)


REGISTRY: Final = declare()
