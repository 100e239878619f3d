"""Session of a visitor: the newest events of the sequence, with gaps of less than 30 minutes."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any, Final

from slipstream.contracts.times import HOUR_MS
from slipstream.contracts.vocabulary import CART, PURCHASE, VIEW
from slipstream.features.visitor import SequenceEvent, VisitorState

GAP_MS: Final = HOUR_MS // 2
# Most items of the session that the features have, the newest.
ITEMS: Final = 20


def session_of(sequence: Sequence[SequenceEvent], now_ms: int) -> Sequence[SequenceEvent]:
    """The events of the session at `now_ms`, oldest first.

    There are none when the last event up to then is 30 minutes old or more. Events after `now_ms`
    do not count. Of a session longer than a sequence, only the newest events are known.
    """
    end = bisect_right(sequence, now_ms, key=attrgetter("timestamp"))
    start, after = end, now_ms
    while start and after - sequence[start - 1].timestamp < GAP_MS:
        start -= 1
        after = sequence[start].timestamp
    return sequence[start:end]


def session_features(
    state: VisitorState | None, now_ms: int, names: Iterable[str] | None = None
) -> dict[str, Any]:
    """The features of `views.SESSION` at `now_ms`; all, or those named.

    They count the events of the sequence: those on items, with signal. Outside a session they are
    the defaults.
    """
    session = session_of(state.sequence if state else (), now_ms)
    items = list(dict.fromkeys(event.item_id for event in reversed(session)))
    types = [event.event_type for event in session]
    features: dict[str, Any] = {
        "active": int(bool(session)),
        "events": len(session),
        "distinct_items": len(items),
        "views": types.count(VIEW),
        "carts": types.count(CART),
        "purchases": types.count(PURCHASE),
        "minutes": (session[-1].timestamp - session[0].timestamp) / 60_000 if session else 0.0,
        "minutes_since_last": (now_ms - session[-1].timestamp) / 60_000 if session else -1.0,
        "items": items[:ITEMS],
    }
    return features if names is None else {name: features[name] for name in names}
