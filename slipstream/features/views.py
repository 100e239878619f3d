"""Registry of feature views and services, which serving, training and the API read.

A view declares its features with type, default and time to live; a service is a named group of
features. `docs/features.md` is generated from here. A view is `stored` (read off a state that the
stream keeps), `derived` (computed from states and the catalogue when it is asked for) or `request`
(needs the request, too).
"""

from collections.abc import Sequence
from typing import Final

from slipstream.features.declarations import DAY_S, FeatureRegistry, FeatureService
from slipstream.features.declarations import Feature as Feature
from slipstream.features.declarations import FeatureView as FeatureView
from slipstream.features.item_views import ITEM as ITEM
from slipstream.features.item_views import ITEM_NEIGHBOURS as ITEM_NEIGHBOURS
from slipstream.features.visitor_views import AFFINITY_ATTRIBUTES as AFFINITY_ATTRIBUTES
from slipstream.features.visitor_views import SESSION as SESSION
from slipstream.features.visitor_views import VISITOR as VISITOR
from slipstream.features.visitor_views import affinity_view as affinity_view

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

# Features that serving records with each slate. A model's drift reference has the same.
RECOMMENDER: Final = FeatureService(
    "recommender",
    "inputs of recommendations, recorded with each slate and watched for drift against training",
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
        "numbers of a visitor, an item and a request, for a model that ranks",
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
