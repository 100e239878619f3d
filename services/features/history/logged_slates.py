"""Logs of sampled slates: a placement's slates of a period, with the responses that followed.

A response belongs to the slate that it names, for a day, or else to the visitor's last sampled
slate before it that shows its item, for half an hour. An item of a slate is clicked once at most.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from heapq import nsmallest
from operator import itemgetter
from typing import Any, Final, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from slipstream.contracts.page_visitors import page_visitor
from slipstream.contracts.rest import LoggedSlate, LoggedSlates
from slipstream.contracts.times import DAY_MS
from slipstream.contracts.vocabulary import (
    MOST_VALUE,
    PURCHASE,
    SHOWN,
    WITHOUT_SIGNAL,
    currency_code,
)
from slipstream.stores.lake import INTERACTIONS, RECOMMENDATIONS, Lake
from slipstream.stores.lake_reader import day_of

# Time after a slate within which a response that names it belongs to it, and any other one.
NAMED_MS: Final = DAY_MS
UNNAMED_MS: Final = 30 * 60_000
_COUNTED: Final = ("recommendation_id", "timestamp", "placement", "variant", "purpose", "sampled")
_RESPONSES: Final = (
    "event_id", "event_type", "user_id", "item_id", "timestamp", "value", "recommendation_id",
    "properties",
)  # fmt: skip
# Digits at the end of an id, which are random: the least of them are a sample.
_RANDOM_DIGITS: Final = 12


class LogQuery(NamedTuple):
    """The slates that are wanted: of a placement, from `since` until before `until` (ms).

    `variant` takes those of one variant of an experiment alone; empty for all. Of more than `most`,
    a random sample is given.
    """

    placement: str
    since: int
    until: int
    variant: str = ""
    most: int = 10_000


@dataclass(slots=True)
class _Outcome:
    timestamp: int
    places: Mapping[str, int]
    clicked: set[int] = field(default_factory=set)
    revenue: list[tuple[int, float, str]] = field(default_factory=list)


class Outcomes:
    """The responses to slates, each event once, in any order."""

    def __init__(self, slates: list[dict[str, Any]]) -> None:
        self.of: dict[str, _Outcome] = {}
        self._shown: dict[tuple[str, str], list[tuple[int, str]]] = {}
        self._events = set[str]()
        for slate in slates:
            slate_id, shown_at = slate["recommendation_id"], slate["timestamp"]
            places = {item["item_id"]: place for place, item in enumerate(slate["items"])}
            self.of[slate_id] = _Outcome(shown_at, places)
            for item_id in places:
                shown = self._shown.setdefault((slate["user_id"], item_id), [])
                shown.append((shown_at, slate_id))
        for shown in self._shown.values():
            shown.sort()

    def take(self, row: Mapping[str, Any]) -> None:
        """Count an interaction with an item for the slate that it follows from, if any."""
        slate = self._slate_of(row)
        if slate is None or row["event_id"] in self._events:
            return
        self._events.add(row["event_id"])
        place = slate.places[row["item_id"]]
        slate.clicked.add(place)
        value = row["value"]
        if row["event_type"] == PURCHASE and value is not None and 0 < value <= MOST_VALUE:
            currency = currency_code(orjson.loads(row["properties"] or "{}"))
            slate.revenue.append((place, value, currency))

    def _slate_of(self, row: Mapping[str, Any]) -> _Outcome | None:
        item_id, at = row["item_id"], row["timestamp"]
        named = self.of.get(row["recommendation_id"] or "")
        if named is not None and item_id in named.places:
            return named if 0 <= at - named.timestamp <= NAMED_MS else None
        shown = self._shown.get((page_visitor(row["user_id"]), item_id), ())
        before = bisect_right(shown, at, key=itemgetter(0))
        if not before or at - shown[before - 1][0] > UNNAMED_MS:
            return None
        return self.of[shown[before - 1][1]]


def logged_slates(lake: Lake, wanted: LogQuery) -> Iterator[bytes]:
    """A line with `LoggedSlates`, then one for each `LoggedSlate`, oldest first.

    The lake is read before the first line. Raises `LakeUnavailableError`.
    """
    version = lake.version(RECOMMENDATIONS)
    slates, sampled, chosen = _counted(lake, version, wanted)
    rows = _rows(lake, version, wanted, chosen) if chosen else []
    outcomes = Outcomes(rows)
    if rows:
        _read_responses(lake, wanted, rows, outcomes)
    yield _line(LoggedSlates(slates=slates, sampled=sampled, given=len(rows)))
    for row in sorted(rows, key=lambda row: (row["timestamp"], row["recommendation_id"])):
        outcome = outcomes.of[row["recommendation_id"]]
        row["circumstances"] = orjson.loads(row["circumstances"] or "null")
        known = {name: each for name, each in row.items() if each is not None}
        yield _line(
            LoggedSlate(**known, clicked=sorted(outcome.clicked), revenue=sorted(outcome.revenue))
        )


def _line(record: LoggedSlate | LoggedSlates) -> bytes:
    return record.model_dump_json(exclude_defaults=True).encode() + b"\n"


def _counted(lake: Lake, version: int | None, wanted: LogQuery) -> tuple[int, int, list[str]]:
    """The number of slates in the period, that of sampled ones, and the ids of a sample of these.

    No more ids are held than the sample and one batch have.
    """
    slates, sampled, chosen = 0, 0, list[str]()
    for batch in _scan(lake, version, wanted, _COUNTED):
        found = _matching(batch, wanted)
        ids = found.filter(pc.fill_null(found["sampled"], False))["recommendation_id"].to_pylist()
        slates, sampled = slates + found.num_rows, sampled + len(ids)
        of_both = sorted({*chosen, *ids})
        chosen = nsmallest(wanted.most, of_both, key=lambda each: each[-_RANDOM_DIGITS:])
    return slates, sampled, chosen


def _rows(
    lake: Lake, version: int | None, wanted: LogQuery, chosen: list[str]
) -> list[dict[str, Any]]:
    """The rows of these slates, each once."""
    ids, rows = pa.array(chosen, pa.string()), dict[str, dict[str, Any]]()
    for batch in _scan(lake, version, wanted, None):
        for row in batch.filter(pc.is_in(batch["recommendation_id"], ids)).to_pylist():
            rows[row["recommendation_id"]] = row
    return list(rows.values())


def _scan(
    lake: Lake, version: int | None, wanted: LogQuery, columns: tuple[str, ...] | None
) -> Iterator[pa.RecordBatch]:
    return lake.scan(
        RECOMMENDATIONS,
        version,
        columns,
        received_since=day_of(wanted.since),
        only="sampled" if columns is None else None,
        times=(wanted.since, wanted.until - 1),
    )


def _matching(batch: pa.RecordBatch, wanted: LogQuery) -> pa.RecordBatch:
    matches = pc.and_(
        pc.equal(batch["placement"], wanted.placement),
        pc.equal(pc.fill_null(batch["purpose"], SHOWN), SHOWN),
    )
    if wanted.variant:
        matches = pc.and_(matches, pc.equal(batch["variant"], wanted.variant))
    return batch.filter(matches)


def _read_responses(
    lake: Lake, wanted: LogQuery, rows: list[dict[str, Any]], outcomes: Outcomes
) -> None:
    """Have the interactions that may follow from these slates counted."""
    slates = pa.array([row["recommendation_id"] for row in rows], pa.string())
    items = pa.array({item["item_id"] for row in rows for item in row["items"]}, pa.string())
    without_signal = pa.array(sorted(WITHOUT_SIGNAL), pa.string())
    times = wanted.since, wanted.until + NAMED_MS
    since = day_of(wanted.since)
    for batch in lake.scan(INTERACTIONS, None, _RESPONSES, received_since=since, times=times):
        about = pc.or_(
            pc.is_in(batch["recommendation_id"], slates), pc.is_in(batch["item_id"], items)
        )
        signal = pc.invert(pc.is_in(batch["event_type"], without_signal))
        for row in batch.filter(pc.and_(about, signal)).to_pylist():
            if row["item_id"] is not None:
                outcomes.take(row)
