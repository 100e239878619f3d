"""Feast's `get-online-features`: what is asked for, and the answer in the shape that Feast's
clients read.

Two things go beyond Feast 0.67: a value that is older than its view's time to live is not given out
but marked `OUTSIDE_MAX_AGE`, and an entity that was never seen is `NOT_FOUND` (with Redis, Feast
calls it `PRESENT`).
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from functools import lru_cache
from typing import Any, Final

import orjson

from services.features.reads.view_reads import (
    KEYS,
    MOST_WITH_ATTRIBUTES,
    UTC_OFFSET,
    Entities,
    Plan,
    RowKey,
    ViewRead,
    view_reads,
)
from slipstream.features.declarations import FeatureRegistry

PRESENT: Final = "PRESENT"
NULL_VALUE: Final = "NULL_VALUE"
NOT_FOUND: Final = "NOT_FOUND"
OUTSIDE_MAX_AGE: Final = "OUTSIDE_MAX_AGE"
NEVER: Final = "1970-01-01T00:00:00Z"
# Lists of features of which the plan is kept.
_PLANS_KEPT: Final = 512
# UTC-12 to UTC+14.
_OFFSETS: Final = range(-12 * 60, 14 * 60 + 1)


class ReadRefusedError(ValueError):
    """What is asked for is not declared; the text says what there is. `feast_class` is the
    exception of Feast's SDK for it, which its clients raise when the answer names it.
    """

    def __init__(self, message: str, code: str, feast_class: str = "") -> None:
        super().__init__(message)
        self.code, self.feast_class = code, feast_class


class Planner:
    """Makes plans of what is asked for, of what is declared in the registry. Methods raise
    `ReadRefusedError`.
    """

    def __init__(self, registry: FeatureRegistry) -> None:
        self._reads = view_reads(registry)
        self._services = {service.name: service.features for service in registry.services}
        self._plans: dict[tuple[tuple[str, ...], bool], Plan] = {}

    def of_service(self, service: str, full_names: bool) -> Plan:
        """The plan of a feature service."""
        if service not in self._services:
            message = (
                f"Feature service {service} does not exist; there are {', '.join(self._services)}"
            )
            raise ReadRefusedError(
                message, "unknown_feature_service", "FeatureServiceNotFoundException"
            )
        return self.of(self._services[service], full_names)

    def of(self, features: tuple[str, ...], full_names: bool) -> Plan:
        """The plan of a list of "view:feature"."""
        plan = self._plans.get((features, full_names))
        if plan is None:
            plan = self._make(features, full_names)
            if len(self._plans) >= _PLANS_KEPT:
                del self._plans[next(iter(self._plans))]
            self._plans[features, full_names] = plan
        return plan

    def _make(self, features: tuple[str, ...], full_names: bool) -> Plan:
        if not features:
            raise ReadRefusedError("No features specified for retrieval", "no_features")
        references = [self._reference(reference) for reference in dict.fromkeys(features)]
        asked: dict[str, list[str]] = {}
        for view, name in references:
            asked.setdefault(view, []).append(name)
        places = {view: place for place, view in enumerate(asked)}
        columns = []
        for view, name in references:
            whole = self._reads[view].dtypes[name] == "Int64"
            columns.append((f"{view}__{name}" if full_names else name, places[view], name, whole))
        names = [column[0] for column in columns]
        if len(set(names)) < len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            message = f"Duplicate features named {', '.join(twice)} found; to tell them apart, set full_feature_names"
            raise ReadRefusedError(message, "feature_name_collision", "FeatureNameCollisionError")
        return Plan(
            tuple((self._reads[view], tuple(names)) for view, names in asked.items()),
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


def rows_of(entities: Mapping[str, Sequence[str | int]], plan: Plan) -> dict[str, list[str]]:
    """The ids asked for by join key, as text. What belongs to no view is left out, as Feast does.
    Raises `ReadRefusedError`.
    """
    if len({len(ids) for ids in entities.values()}) > 1:
        raise ReadRefusedError(
            "All lists under entities must have the same length", "unequal_entities"
        )
    rows = {
        key: [one if isinstance(one, str) else str(one) for one in ids]
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
        message = f"At most {MOST_WITH_ATTRIBUTES} visitors at once have views that need the attributes of items"
        raise ReadRefusedError(message, "too_many_rows")
    return rows


def offsets_of(entities: Mapping[str, Sequence[str | int]], count: int) -> list[int]:
    """How far each row's visitor is from UTC, in minutes: `utc_offset_minutes` of the request.
    Raises `ReadRefusedError`.
    """
    given = entities.get(UTC_OFFSET)
    if given is None:
        return [0] * count
    offsets = [one for one in given if isinstance(one, int) and one in _OFFSETS]
    if len(offsets) < count:
        raise ReadRefusedError(
            f"{UTC_OFFSET} must be minutes from {_OFFSETS[0]} to {_OFFSETS[-1]}",
            "invalid_utc_offset",
        )
    return offsets


def answer(
    plan: Plan,
    rows: Mapping[str, Sequence[str]],
    offsets: Sequence[int],
    entities: Entities,
    now_ms: int,
    *,
    metadata: bool,
) -> bytes:
    """The JSON of the answer: one result for each join key, then one for each feature in the order
    asked, over all rows.

    `rows` are the ids by join key, `entities` what was read of them. `metadata`: with the views'
    names, as Feast tells them.
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
        _Table(read, names, read.keys(rows, offsets), entities, now_ms)
        for read, names in plan.views
    ]
    for _, place, name, whole in plan.columns:
        results.append(tables[place].column(name, whole))
    described: dict[str, Any] = {"feature_names": [*rows, *(column[0] for column in plan.columns)]}
    if metadata:
        described["feature_view_metadata"] = [{"name": read.view.name} for read, _ in plan.views]
    return orjson.dumps({"results": results, "metadata": described})


class _Table:
    """A view's features of all rows. Those of equal rows are computed once."""

    def __init__(
        self,
        read: ViewRead,
        names: tuple[str, ...],
        keys: Sequence[RowKey],
        entities: Entities,
        now_ms: int,
    ) -> None:
        places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
        # which of the distinct rows each row is; None when they are all distinct
        self._places = None if len(places) == len(keys) else [places[key] for key in keys]
        self._found: list[Mapping[str, Any] | None] = []
        statuses: list[str] = []
        times: list[str] = []
        states = read.states(entities)
        oldest = now_ms - read.view.ttl_s * 1000
        for key in places:
            status, time = PRESENT, NEVER
            if read.view.kind != "request":  # of a request there is something to say whoever asks
                state = states.get(key)
                if state is None:
                    status = NOT_FOUND
                else:
                    time = rfc3339(state.last_seen)
                    if state.last_seen < oldest:
                        status = OUTSIDE_MAX_AGE
            self._found.append(
                read.compute(key, entities, now_ms, names) if status is PRESENT else None
            )
            statuses.append(status)
            times.append(time)
        # The same for each feature of the view, so made once.
        self._statuses = statuses
        self._statuses_json = orjson.Fragment(orjson.dumps(self._spread(statuses)))
        self._times_json = orjson.Fragment(orjson.dumps(self._spread(times)))

    def column(self, name: str, whole: bool) -> dict[str, Any]:
        values: list[Any] = [
            None if features is None else features[name] for features in self._found
        ]
        statuses: Any = self._statuses_json
        if whole:
            values = [value if value is None else int(value) for value in values]
        elif None in values:
            marks = zip(values, self._statuses, strict=True)
            statuses = self._spread(
                [NULL_VALUE if value is None and mark is PRESENT else mark for value, mark in marks]
            )
        return {
            "values": self._spread(values),
            "statuses": statuses,
            "event_timestamps": self._times_json,
        }

    def _spread(self, of_distinct: list[Any]) -> list[Any]:
        """A value for each row, of those for the distinct ones."""
        return (
            of_distinct if self._places is None else [of_distinct[place] for place in self._places]
        )


@lru_cache(16_384)
def rfc3339(millis: int) -> str:
    """A time as protobuf's JSON has it: without a fraction where there is none."""
    seconds, fraction = divmod(millis, 1000)
    day, second = divmod(seconds, 86_400)
    text = f"{_date(day)}T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
    return f"{text}.{fraction:03d}Z" if fraction else f"{text}Z"


@lru_cache(1_024)
def _date(day: int) -> str:
    return (date(1970, 1, 1) + timedelta(day)).isoformat()
