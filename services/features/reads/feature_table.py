"""A view's features in the rows of a read, in Feast's shape."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from functools import lru_cache
from typing import Any, Final, Self

import orjson

from services.features.reads.view_reads import Entities, RowKey, ViewRead
from slipstream.chassis.slices import in_slices

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
            read: The view's read.
            names: Features that are computed at least.
            keys: Subject of each row.
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
