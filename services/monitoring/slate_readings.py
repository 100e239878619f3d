"""Readings of a slate: what the model read of the visitor, and what it said. Pure functions.

Serving records with each slate what it was made from (`slipstream.contracts.circumstances`). So the
readings are the model's own input at the moment of the answer, and windows of any age have them at
the same moment. `MEASURES` lists them.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any, Final, NamedTuple

import msgspec

from services.monitoring.item_attributes import ItemAttributes, ItemCatalogue
from slipstream.contracts.circumstances import FORM
from slipstream.contracts.slates import RecordedSlate
from slipstream.evaluation.drift_findings import Measure

MEASURES: Final = (
    # Why a history could not be read; `read` also where it is empty.
    Measure("history", "read", "names", good="read"),
    Measure("history_length", "read", "number", grows=True),
    Measure("history_age_s", "read", "number", grows=True),
    Measure("event_gap_s", "read", "number", grows=True),
    Measure("since_last_s", "read", "number", grows=True),
    # A history that nothing reaches any more has no event of the last hour.
    Measure("last_event", "read", "names", fixed=True),
    Measure("event_types", "read", "names"),
    Measure("items", "read", "names"),
    Measure("categories", "read", "names"),
    Measure("brands", "read", "names"),
    Measure("price", "read", "number"),
    # Shares of the history's items that are in the catalogue, and that are not.
    Measure("catalogue_items", "read", "names", good="known"),
    # Whether the history has the visitor's newest event that monitoring has read.
    Measure("newest_event", "read", "names", good="read"),
    Measure("answered_by", "said", "names", fixed=True),
    Measure("sources", "said", "names", fixed=True),
    Measure("list_length", "said", "number"),
    Measure("top_score", "said", "number"),
    Measure("score_spread", "said", "number"),
    Measure("shown_categories", "said", "names"),
    Measure("shown_diversity", "said", "number"),
    Measure("latency_ms", "said", "number"),
)

_MODEL: Final = "model"
_HOUR_S: Final = 3_600.0
# An event is in the state of its visitor some tenths of a second after it was read; this is the
# time from which it should be there.
_SETTLED_MS: Final = 60_000
_LONGEST_REASON: Final = 60
# Serving gives such ids to slates without a visitor.
_NO_VISITOR: Final = "anonymous:"

# A number, shares of names, or None for a value that is missing.
Reading = float | Mapping[str, float] | None


class _History(msgspec.Struct):
    items: list[str] = []
    types: list[str] = []
    times: list[int] = []


class _Inputs(msgspec.Struct):
    """The fields of circumstances that readings need."""

    form: int = 0
    size: int = 0
    now: int = 0
    steps: list[str] = []
    history: _History = msgspec.field(default_factory=_History)
    no_history: str = ""


_INPUTS: Final = msgspec.json.Decoder(_Inputs)


class NewestEvent(NamedTuple):
    """The newest event of a visitor that monitoring has read: its item and time (ms)."""

    item_id: str
    timestamp: int


class Readings(msgspec.Struct):
    """The readings of a slate, as they are kept until the window ends.

    Attributes:
        values: Reading by measure; one that does not apply is left out.
        stratum: The placement, marked for sessions, which have other visitors.
        version: The model version; '' for none.
        shown: Items of the slate.
        read: Items of the history.
    """

    values: dict[str, Any]
    stratum: str
    version: str
    shown: list[str]
    read: list[str]


def readings_of(
    slate: RecordedSlate,
    catalogue: ItemCatalogue | None,
    newest: NewestEvent | None,
) -> Readings:
    """The readings of a slate.

    Args:
        catalogue: The catalogue; None where it is not known.
        newest: The visitor's newest event before the slate, where one is known.
    """
    try:
        inputs = _INPUTS.decode(slate.circumstances)
    except ValueError:
        inputs = _Inputs()
    values: dict[str, Reading] = {}
    read: list[str] = []
    if inputs.form == FORM and not inputs.size and _MODEL in inputs.steps:
        read = inputs.history.items
        values |= _read(inputs, catalogue, newest)
    values |= _said(slate, catalogue)
    session = " (session)" if slate.user_id.startswith(_NO_VISITOR) else ""
    shown = [item.item_id for item in slate.items]
    return Readings(values, slate.placement + session, slate.model_version or "", shown, read)


def visitor_of(slate: RecordedSlate) -> str:
    """The key by which a visitor counts once in a window.

    A session without an id is known by its first event.
    """
    if not slate.user_id.startswith(_NO_VISITOR):
        return slate.user_id
    try:
        history = _INPUTS.decode(slate.circumstances).history
    except ValueError:
        return slate.user_id
    if not history.items or not history.times or not history.times[0]:
        return slate.user_id
    return f"{_NO_VISITOR}{history.times[0]}:{history.items[0]}"


def _read(
    inputs: _Inputs,
    catalogue: ItemCatalogue | None,
    newest: NewestEvent | None,
) -> dict[str, Reading]:
    history, now_ms = inputs.history, inputs.now
    values: dict[str, Reading] = {
        "history": {inputs.no_history[:_LONGEST_REASON] or "read": 1.0},
        "history_length": float(len(history.items)),
    }
    if newest is not None and newest.timestamp <= now_ms - _SETTLED_MS:
        values["newest_event"] = {"read" if newest.item_id in history.items else "lacking": 1.0}
    if not history.items:
        return values
    values["items"] = _shares(history.items)
    values["event_types"] = _shares(history.types)
    if history.times and history.times[0]:
        last_s = (now_ms - sum(history.times)) / 1000
        values["since_last_s"] = last_s
        values["last_event"] = {"within an hour" if last_s < _HOUR_S else "earlier": 1.0}
        values["history_age_s"] = (now_ms - history.times[0]) / 1000
        if len(history.times) > 1:
            values["event_gap_s"] = median(history.times[1:]) / 1000
    if catalogue is not None:
        known, unknown = _found(history.items, catalogue)
        if known or unknown:
            values["catalogue_items"] = {"known": float(len(known)), "unknown": float(unknown)}
        if known:
            values["categories"] = _shares(_all_categories(known))
            values["brands"] = _shares([each.brand for each in known if each.brand])
            prices = [each.price for each in known if each.price is not None]
            values["price"] = median(prices) if prices else None
    return values


def _said(slate: RecordedSlate, catalogue: ItemCatalogue | None) -> dict[str, Reading]:
    values: dict[str, Reading] = {
        "answered_by": {slate.answered_by: 1.0},
        "list_length": float(len(slate.items)),
        "latency_ms": slate.latency_ms,
    }
    if not slate.items:
        return values
    values["sources"] = _shares([item.source for item in slate.items])
    if slate.answered_by == _MODEL:
        scores = [item.score for item in slate.items]
        values["top_score"] = max(scores)
        values["score_spread"] = max(scores) - min(scores)
    if catalogue is not None:
        known, _ = _found((item.item_id for item in slate.items), catalogue)
        categories = _all_categories(known)
        if known:
            values["shown_categories"] = _shares(categories)
        if categories:
            values["shown_diversity"] = len(set(categories)) / len(known)
    return values


def _found(items: Iterable[str], catalogue: ItemCatalogue) -> tuple[list[ItemAttributes], int]:
    """The attributes of those that are in the catalogue, and the number of the others."""
    found = [catalogue.get(item) for item in items if catalogue.watches(item)]
    known = [attributes for attributes in found if attributes is not None]
    return known, len(found) - len(known)


def _all_categories(items: Sequence[ItemAttributes]) -> list[str]:
    return [category for each in items for category in each.categories]


def _shares(names: Sequence[str]) -> dict[str, float]:
    return {name: count / len(names) for name, count in Counter(names).items()}
