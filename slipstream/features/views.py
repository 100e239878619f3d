"""The feature views: which features there are, of what, with which defaults. Serving, training and the API read this table."""

from dataclasses import dataclass
from typing import Final, Literal

DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature. `default` stands for an entity that was never seen."""

    name: str
    dtype: Literal["int64", "float64"]
    default: float
    description: str


@dataclass(frozen=True, slots=True)
class FeatureView:
    """The features of one kind of entity. A value is stale, and not served as present, `ttl_s` after the entity's last event."""

    name: Literal["visitor", "item"]
    entity: str
    join_key: str
    fields: tuple[Feature, ...]
    ttl_s: int

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.fields)


VISITOR: Final = FeatureView(
    "visitor",
    "visitor",
    "user_id",
    (
        Feature("history_length", "int64", 0.0, "events on items in the recent sequence, at most 100"),
        Feature("distinct_items", "int64", 0.0, "different items in the recent sequence"),
        Feature("events_1h", "int64", 0.0, "events of the recent sequence in the last hour"),
        Feature("events_1d", "int64", 0.0, "events of the recent sequence in the last 24 hours"),
        Feature("events_7d", "int64", 0.0, "events of the recent sequence in the last 7 days"),
        Feature("hours_since_last", "float64", -1.0, "hours since the last event of any type; -1 when there is none"),
        Feature("views", "int64", 0.0, "views ever"),
        Feature("purchases", "int64", 0.0, "purchases ever"),
    ),
    ttl_s=90 * DAY_S,
)

ITEM: Final = FeatureView(
    "item",
    "item",
    "item_id",
    (
        Feature("views", "int64", 0.0, "views ever"),
        Feature("purchases", "int64", 0.0, "purchases ever"),
        Feature("popularity", "float64", 0.0, "events by the weight of their type, decayed with a half-life of 7 days"),
        Feature("events_1d", "int64", 0.0, "events with signal in this hour and the 23 before it"),
        Feature("events_7d", "int64", 0.0, "events with signal in this day (UTC) and the 6 before it"),
        Feature("age_hours", "float64", -1.0, "hours since the first event; -1 when there is none"),
    ),
    ttl_s=180 * DAY_S,
)

VIEWS: Final = (VISITOR, ITEM)
