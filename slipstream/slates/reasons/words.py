"""Reasons as English sentences."""

from collections.abc import Sequence
from typing import Final

import orjson

from slipstream.contracts import vocabulary as v
from slipstream.contracts.reasons import HistoryItem
from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.slates.reasons.causes import ListedRanks, Rank, history_decides

_LONGEST_TITLE: Final = 80
_ORDINALS: Final = (
    *("first", "second", "third", "fourth", "fifth"),
    *("sixth", "seventh", "eighth", "ninth", "tenth"),
)
_ENDINGS: Final = {1: "st", 2: "nd", 3: "rd"}
# Events by type, around the item's name. Custom types are named as they are.
_DEEDS: Final = {
    v.VIEW: ("viewed", ""),
    v.CLICK: ("clicked", ""),
    v.CART: ("put", " into the cart"),
    v.PURCHASE: ("bought", ""),
    v.RATE: ("rated", ""),
    v.LIKE: ("liked", ""),
    v.WISHLIST: ("put", " on the wish list"),
}
_UNITS: Final = (
    (365 * DAY_MS, "year"),
    (30 * DAY_MS, "month"),
    (7 * DAY_MS, "week"),
    (DAY_MS, "day"),
    (HOUR_MS, "hour"),
    (HOUR_MS // 60, "minute"),
)


def reason_words(
    item_id: str,
    place: int,
    ranks: ListedRanks,
    source: str | None,
    history: Sequence[HistoryItem],
    now: int,
    *,
    pinned: bool = False,
) -> str:
    """The reason of a recommended item as a sentence, without a full stop. `place` counts from 1;
    `history` is in the order of the ranks; `now` is in ms.
    """
    lead = ordinal(place) + (" because a rule pins it" if pinned else "")
    if ranks.now is None:
        return f"{lead}; not among the first {ranks.depth} that the model finds for this visitor"
    if pinned or ranks.now != place:
        lead = f"{lead}; the model has it {ordinal(ranks.now)}"
    if ranks.cause is not None:
        *others, last = [history[each] for each in ranks.cause.places]
        deeds = [_deed(item_id, past, now) for past in (*others, last)]
        done = f"{', '.join(deeds[:-1])} and {deeds[-1]}" if others else deeds[0]
        left_out = "all that" if others or last.events > 1 else "it"
        rank = _ranked(ranks.cause.rank, ranks.depth)
        return f"{lead} because this visitor {done}; without {left_out}, {rank}"
    without = _ranked(ranks.without_history, ranks.depth)
    if history_decides(ranks.now, ranks.without_history):
        if ranks.strongest is None:
            return f"{lead} because of all that this visitor did; without it, {without}"
        deed = _deed(item_id, history[ranks.strongest], now)
        rank = _ranked(ranks.without[ranks.strongest], ranks.depth)
        return (
            f"{lead} because of all that this visitor did, above all that they {deed} (without "
            f"that, {rank}); without any of it, {without}"
        )
    why = "because it is popular" if source == "popularity" else "whatever this visitor did"
    return f"{lead} {why}; for a visitor who has done nothing, {without}"


def ordinal(rank: int) -> str:
    """The rank as a word up to tenth, then as 11th, 22nd."""
    if rank <= len(_ORDINALS):
        return _ORDINALS[rank - 1]
    teen = rank % 100 in (11, 12, 13)
    return f"{rank}{'th' if teen else _ENDINGS.get(rank % 10, 'th')}"


def ago(timestamp: int, now: int) -> str:
    """The time that has gone by, in its largest unit; empty where the time (ms) is not known."""
    if timestamp <= 0:
        return ""
    for size, unit in _UNITS:
        if (count := (now - timestamp) // size) > 0:
            one = "an" if unit == "hour" else "a"
            return f"{one} {unit} ago" if count == 1 else f"{count} {unit}s ago"
    return "just now"


def title(attributes: bytes | None) -> str | None:
    """The title of an item, or else its name, from its attributes as JSON; None where it has none.

    A title of more than 80 characters is cut.
    """
    known = orjson.loads(attributes) if attributes else {}
    for name in ("title", "name"):
        value = known.get(name)
        if isinstance(value, str) and (text := " ".join(value.split())):
            return text if len(text) <= _LONGEST_TITLE else text[: _LONGEST_TITLE - 1] + "…"
    return None


def _ranked(rank: Rank, depth: int) -> str:
    return f"beyond {ordinal(depth)}" if rank is None else ordinal(rank)


def _deed(item_id: str, past: HistoryItem, now: int) -> str:
    """What the visitor did, such as `viewed "Heat" 2 days ago`."""
    name = "this item" if past.item_id == item_id else f'"{past.title or past.item_id}"'
    verb, rest = _DEEDS.get(past.event_type, (f'did "{past.event_type}" with', ""))
    deed = " ".join(filter(None, (f"{verb} {name}{rest}", ago(past.timestamp, now))))
    return deed if past.events == 1 else f"{deed} (one of {past.events} events)"
