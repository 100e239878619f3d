"""Types of the declarations of features: a feature, a view, a service, and the registry of all."""

from dataclasses import dataclass
from typing import Any, Final, Literal

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
