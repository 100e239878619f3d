"""Views of an item: what the stream keeps, and the items visited with it."""

from typing import Final

from slipstream.features import rates
from slipstream.features.declarations import COUNTED, DAY_S, Feature, FeatureView

_SPANS: Final = {
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
            for span, words in _SPANS.items()
        ),
        *(
            Feature(f"{name}_{span}", "Int64", 0, f"{name} {words}")
            for name in COUNTED
            for span, words in _SPANS.items()
        ),
        *(
            Feature(
                f"click_through{suffix}",
                "Float64",
                rates.smoothed(0, 0, rates.CLICK_THROUGH),
                f"clicks an impression {words}, smoothed by Beta(1, 19): 5 % before the first "
                "impression",
            )
            for suffix, words in (
                ("", "ever"),
                ("_7d", _SPANS["7d"]),
                ("_30d", _SPANS["30d"]),
            )
        ),
        *(
            Feature(
                f"conversion{suffix}",
                "Float64",
                rates.smoothed(0, 0, rates.CONVERSION),
                f"purchases a view or click {words}, smoothed by Beta(1, 49): 2 % before the first",
            )
            for suffix, words in (
                ("", "ever"),
                ("_7d", _SPANS["7d"]),
                ("_30d", _SPANS["30d"]),
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
