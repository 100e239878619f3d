"""Feast's `get-online-features`: plans for lists of features, and answers in Feast's shape.

Two statuses go beyond Feast 0.67. A value older than its view's time to live is left out and marked
`OUTSIDE_MAX_AGE`. An entity that was never seen is `NOT_FOUND` (with Redis, Feast says `PRESENT`).
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from functools import lru_cache
from typing import Any, Final, Self

import orjson

from services.features.reads.view_reads import (
    KEYS,
    MOST_WITH_ATTRIBUTES,
    UTC_OFFSET,
    Entities,
    ReadPlan,
    RowKey,
    ViewRead,
    view_reads,
)
from slipstream.chassis.bodies import in_slices
from slipstream.features.views import FeatureRegistry

PRESENT: Final = "PRESENT"
NULL_VALUE: Final = "NULL_VALUE"
NOT_FOUND: Final = "NOT_FOUND"
OUTSIDE_MAX_AGE: Final = "OUTSIDE_MAX_AGE"
NEVER: Final = "1970-01-01T00:00:00Z"


class FeatureTable:
    """A view's features in all rows. Features of equal rows are computed once."""

    def __init__(
        self,
        features: list[Mapping[str, Any] | None],
        statuses: list[str],
        times: list[str],
        indices: list[int] | None,
    ) -> None:
        """
        Args:
            features: Features of each distinct row; None where there are none.
            statuses: Status of each distinct row.
            times: Event time of each distinct row.
            indices: Index of each row among the distinct rows; None when all are distinct.
        """
        self._features, self._statuses, self._indices = features, statuses, indices
        # Most features of the view have these statuses and times, so their JSON is made once.
        self._statuses_json = orjson.Fragment(orjson.dumps(self._spread(statuses)))
        self._times_json = orjson.Fragment(orjson.dumps(self._spread(times)))

    @classmethod
    async def of(
        cls,
        read: ViewRead,
        names: tuple[str, ...],
        keys: Sequence[RowKey],
        entities: Entities,
        now_ms: int,
    ) -> Self:
        """The table of a view.

        Args:
            names: Features that are computed at least.
            entities: States and attributes that were read for the rows.
            now_ms: Moment at which features are computed, in ms since the epoch.
        """
        indices = {key: index for index, key in enumerate(dict.fromkeys(keys))}
        features: list[Mapping[str, Any] | None] = []
        statuses: list[str] = []
        times: list[str] = []
        states = read.states(entities)
        oldest = now_ms - read.view.ttl_s * 1000
        async for key in in_slices(indices):
            status, time = PRESENT, NEVER
            # Request-time features are there for visitors and items that were never seen, too.
            if read.view.kind != "request":
                state = states.get(key)
                if state is None:
                    status = NOT_FOUND
                else:
                    time = rfc3339(state.last_seen)
                    if state.last_seen < oldest:
                        status = OUTSIDE_MAX_AGE
            features.append(
                read.compute(key, entities, now_ms, names) if status is PRESENT else None
            )
            statuses.append(status)
            times.append(time)
        spread = None if len(indices) == len(keys) else [indices[key] for key in keys]
        return cls(features, statuses, times, spread)

    def column(self, name: str, dtype: str) -> dict[str, Any]:
        """A feature's result in Feast's shape.

        An empty list is a null. Feast's SDK finds no type in it, and drops the whole answer.
        """
        values: list[Any] = [
            None if features is None else features[name] for features in self._features
        ]
        statuses: Any = self._statuses_json
        if dtype == "Int64":
            values = [value if value is None else int(value) for value in values]
        else:
            if dtype.startswith("Array"):
                values = [value or None for value in values]
            if None in values:
                statuses = self._spread(
                    [
                        NULL_VALUE if value is None and mark is PRESENT else mark
                        for value, mark in zip(values, self._statuses, strict=True)
                    ]
                )
        return {
            "values": self._spread(values),
            "statuses": statuses,
            "event_timestamps": self._times_json,
        }

    def _spread(self, values: list[Any]) -> list[Any]:
        """The values of all rows, from those of the distinct rows."""
        return values if self._indices is None else [values[index] for index in self._indices]


@lru_cache(16_384)
def rfc3339(millis: int) -> str:
    """A time in RFC 3339 as protobuf's JSON has it: without a fraction on a full second."""
    seconds, fraction = divmod(millis, 1000)
    day, second = divmod(seconds, 86_400)
    text = f"{_date(day)}T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
    return f"{text}.{fraction:03d}Z" if fraction else f"{text}Z"


@lru_cache(1_024)
def _date(day: int) -> str:
    return (date(1970, 1, 1) + timedelta(day)).isoformat()


# Feature lists with cached plans.
_PLANS_KEPT: Final = 512
# Minutes from UTC: UTC-12 to UTC+14.
OFFSETS: Final = range(-12 * 60, 14 * 60 + 1)


class ReadRefusedError(ValueError):
    """A request asks for a feature that is not declared, or gives entities that don't fit.

    The text names the features that there are. `feast_class` is the exception of Feast's SDK that
    its clients raise when the answer names it.
    """

    def __init__(self, message: str, code: str, feast_class: str = "") -> None:
        super().__init__(message)
        self.code, self.feast_class = code, feast_class


class Planner:
    """Makes read plans for lists of features that the registry declares.

    Methods raise `ReadRefusedError`.
    """

    def __init__(self, registry: FeatureRegistry) -> None:
        self._reads = view_reads(registry)
        self._services = {service.name: service.features for service in registry.services}
        self._plans: dict[tuple[tuple[str, ...], bool], ReadPlan] = {}

    def of_service(self, service: str, full_names: bool) -> ReadPlan:
        """The plan for a feature service."""
        if service not in self._services:
            message = (
                f"Feature service {service} does not exist; there are {', '.join(self._services)}"
            )
            raise ReadRefusedError(
                message, "unknown_feature_service", "FeatureServiceNotFoundException"
            )
        return self.of(self._services[service], full_names)

    def of_view(self, view: str) -> ReadPlan:
        """The plan for all features of a view."""
        names = self._reads[view].view.feature_names
        return self.of(tuple(f"{view}:{name}" for name in names), full_names=False)

    def of(self, features: tuple[str, ...], full_names: bool) -> ReadPlan:
        """The plan for a list of features, each as "view:feature"."""
        plan = self._plans.get((features, full_names))
        if plan is None:
            plan = self._make(features, full_names)
            if len(self._plans) >= _PLANS_KEPT:
                del self._plans[next(iter(self._plans))]
            self._plans[features, full_names] = plan
        return plan

    def _make(self, features: tuple[str, ...], full_names: bool) -> ReadPlan:
        if not features:
            raise ReadRefusedError("No features specified for retrieval", "no_features")
        references = [self._reference(reference) for reference in dict.fromkeys(features)]
        names_by_view: dict[str, list[str]] = {}
        for view, name in references:
            names_by_view.setdefault(view, []).append(name)
        indices = {view: index for index, view in enumerate(names_by_view)}
        columns = []
        for view, name in references:
            dtype = self._reads[view].dtypes[name]
            columns.append((f"{view}__{name}" if full_names else name, indices[view], name, dtype))
        names = [column[0] for column in columns]
        if len(set(names)) < len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            message = (
                f"Duplicate features named {', '.join(twice)} found; "
                "to tell them apart, set full_feature_names"
            )
            raise ReadRefusedError(message, "feature_name_collision", "FeatureNameCollisionError")
        return ReadPlan(
            tuple((self._reads[view], tuple(names)) for view, names in names_by_view.items()),
            tuple(columns),
        )

    def _reference(self, reference: str) -> tuple[str, str]:
        view, colon, name = reference.partition(":")
        if not colon:
            raise ReadRefusedError(
                f"Invalid feature reference {reference!r}; expected 'view:feature'",
                "invalid_feature",
            )
        read = self._reads.get(view)
        if read is None:
            message = f"Feature view {view} does not exist; there are {', '.join(self._reads)}"
            raise ReadRefusedError(message, "unknown_feature_view", "FeatureViewNotFoundException")
        if name not in read.dtypes:
            there = ", ".join(read.view.feature_names)
            raise ReadRefusedError(
                f"Feature {name} not found in view {view}; there are {there}", "unknown_feature"
            )
        return view, name


def rows_of(entities: Mapping[str, Sequence[str | int]], plan: ReadPlan) -> dict[str, list[str]]:
    """The ids of a request by join key, as text.

    Columns that belong to no view are left out, as Feast does. Raises `ReadRefusedError`.
    """
    if len({len(ids) for ids in entities.values()}) > 1:
        raise ReadRefusedError(
            "All lists under entities must have the same length", "unequal_entities"
        )
    rows = {
        key: [entity if isinstance(entity, str) else str(entity) for entity in ids]
        for key, ids in entities.items()
        if key in KEYS
    }
    for read, _ in plan.views:
        for key in read.view.join_keys:
            if key not in rows:
                raise ReadRefusedError(
                    f"View {read.view.name!r} needs {key!r} under entities", "missing_entity"
                )
    if plan.needs_attributes and len(set(rows["user_id"])) > MOST_WITH_ATTRIBUTES:
        message = (
            f"At most {MOST_WITH_ATTRIBUTES} visitors at once "
            "have views that need the attributes of items"
        )
        raise ReadRefusedError(message, "too_many_rows")
    return rows


def offsets_of(entities: Mapping[str, Sequence[str | int]], count: int) -> list[int]:
    """Each row's minutes from UTC, from `utc_offset_minutes` of the request; 0 without it.

    Raises `ReadRefusedError`.
    """
    given = entities.get(UTC_OFFSET)
    if given is None:
        return [0] * count
    offsets = [offset for offset in given if isinstance(offset, int) and offset in OFFSETS]
    if len(offsets) < count:
        raise ReadRefusedError(
            f"{UTC_OFFSET} must be minutes from {OFFSETS[0]} to {OFFSETS[-1]}",
            "invalid_utc_offset",
        )
    return offsets


async def answer(
    plan: ReadPlan,
    rows: Mapping[str, Sequence[str]],
    offsets: Sequence[int],
    entities: Entities,
    now_ms: int,
    *,
    metadata: bool,
) -> bytes:
    """The JSON of the answer: a result per join key, then one per feature in the order asked.

    It is made in slices: a thousand visitors with all features take a tenth of a second.

    Args:
        rows: Ids by join key, all lists of one length.
        offsets: Minutes from UTC of each row.
        entities: States and attributes that were read for the rows.
        now_ms: Moment at which features are computed, in ms since the epoch.
        metadata: Whether the answer names the views, as Feast does on request.
    """
    results: list[Any] = []
    for ids in rows.values():
        results.append(
            {
                "values": ids,
                "statuses": [PRESENT] * len(ids),
                "event_timestamps": [NEVER] * len(ids),
            }
        )
    tables = [
        await FeatureTable.of(read, names, read.keys(rows, offsets), entities, now_ms)
        for read, names in plan.views
    ]
    async for _, view_index, name, dtype in in_slices(plan.columns):
        # As JSON, so that no step at the end writes all at once.
        results.append(orjson.Fragment(orjson.dumps(tables[view_index].column(name, dtype))))
    described: dict[str, Any] = {"feature_names": [*rows, *(column[0] for column in plan.columns)]}
    if metadata:
        described["feature_view_metadata"] = [{"name": read.view.name} for read, _ in plan.views]
    return orjson.dumps({"results": results, "metadata": described})
