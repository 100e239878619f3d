"""Features that are computed at the moment of a request: session, affinities, and the item's match.

The session is the newest events of the sequence, with gaps of less than 30 minutes.

Affinities of a visitor are to values of item attributes and to prices, decayed by time. They are
computed from the recent sequence and the items' attributes as known at the moment, and not stored.
So a catalogue entry that comes late counts, and so does a correction.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from operator import attrgetter
from typing import Any, Final, NamedTuple

from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.contracts.vocabulary import CART, PURCHASE, VIEW, signal_weight
from slipstream.features.visitor import SequenceEvent, VisitorState, visitor_features

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


HALF_LIFE_MS: Final = 14 * DAY_MS
# Most values of an attribute that the features have, the strongest.
VALUES: Final = 10
PRICE: Final = "price"
# The attribute that is read where an item does not have the first one: shops list categories.
STAND_INS: Final = {"category": "categories"}
NO_PRICE: Final = -1.0

Attributes = Mapping[str, Any]


class PriceBand(NamedTuple):
    """Lower quartile, median and upper quartile of prices; -1 each when no price is known."""

    low: float = NO_PRICE
    typical: float = NO_PRICE
    high: float = NO_PRICE


def affinities(
    sequence: Sequence[SequenceEvent], items: Mapping[str, Attributes], attribute: str, now_ms: int
) -> list[tuple[str, float]]:
    """The values of an attribute and their shares, strongest first; shares add up to 1.

    An event counts for its item's value with the weight of its type, halved each `HALF_LIFE_MS`.
    Several values (a list) share it equally. An item without a `category` has its `categories`.
    Events after `now_ms` and items without the attribute do not count. The sequence is oldest
    first; `items` has attributes as far as they are known.
    """
    weights: dict[str, float] = {}
    for weight, attributes in _weighted(sequence, items, now_ms):
        values = values_of(attributes, attribute)
        for value in values:
            weights[value] = weights.get(value, 0.0) + weight / len(values)
    total = sum(weights.values())
    if total <= 0.0:
        return []
    return [
        (value, weight / total)
        for value, weight in sorted(weights.items(), key=lambda pair: (-pair[1], pair[0]))
    ]


def price_band(
    sequence: Sequence[SequenceEvent], items: Mapping[str, Attributes], now_ms: int
) -> PriceBand:
    """The band of the visitor's prices up to `now_ms`, by the weights of `affinities`."""
    prices = []
    for weight, attributes in _weighted(sequence, items, now_ms):
        price = price_of(attributes)
        if price is not None:
            prices.append((price, weight))
    if not prices:
        return PriceBand()
    prices.sort()
    total = sum(weight for _, weight in prices)
    return PriceBand(*(_quantile(prices, share * total) for share in (0.25, 0.5, 0.75)))


def price_of(attributes: Attributes | None) -> float | None:
    """An item's price, a number over 0 or the text of one; None when it has none."""
    price = attributes.get(PRICE) if attributes else None
    if isinstance(price, bool) or not isinstance(price, int | float | str):
        return None
    try:
        number = float(price)
    except (ValueError, OverflowError):
        return None
    return number if isfinite(number) and number > 0.0 else None


def values_of(attributes: Attributes, attribute: str) -> list[str]:
    """The values of an item's attribute as texts, or else of the one in `STAND_INS`."""
    values = texts(attributes.get(attribute))
    if not values and (other := STAND_INS.get(attribute)):
        return texts(attributes.get(other))
    return values


def texts(value: Any) -> list[str]:
    """The values of an attribute as texts, each once.

    A text, number or truth value gives one, a list gives those of its entries, all else none.
    """
    if isinstance(value, list | tuple):
        return list(
            dict.fromkeys(
                text
                for entry in value
                if not isinstance(entry, list | tuple)
                for text in texts(entry)
            )
        )
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if isinstance(value, str | int | float) and value != "":
        return [str(value)]
    return []


def affinity_features(
    sequence: Sequence[SequenceEvent],
    items: Mapping[str, Attributes],
    now_ms: int,
    attributes: Iterable[str],
) -> dict[str, Any]:
    """The features of `views.affinity_view(attributes)`; the defaults where nothing is known. The
    sequence is oldest first; `items` has attributes as far as they are known.
    """
    features: dict[str, Any] = {}
    for attribute in attributes:
        strongest = affinities(sequence, items, attribute, now_ms)[:VALUES]
        features[f"top_{attribute}"] = strongest[0][0] if strongest else ""
        features[f"{attribute}_values"] = [value for value, _ in strongest]
        features[f"{attribute}_shares"] = [share for _, share in strongest]
    band = price_band(sequence, items, now_ms)
    return features | {
        "price_low": band.low,
        "price_typical": band.typical,
        "price_high": band.high,
    }


def _weighted(
    sequence: Sequence[SequenceEvent], items: Mapping[str, Attributes], now_ms: int
) -> Iterator[tuple[float, Attributes]]:
    for event in sequence:
        attributes = items.get(event.item_id)
        if attributes and event.timestamp <= now_ms:
            weight = signal_weight(event.event_type, event.value) * 2.0 ** (
                (event.timestamp - now_ms) / HALF_LIFE_MS
            )
            if weight > 0.0:
                yield weight, attributes


def _quantile(prices: list[tuple[float, float]], weight: float) -> float:
    """The first price at which the weights add up to `weight`; `prices` are (price, weight)."""
    reached = 0.0
    for price, share in prices:
        reached += share
        if reached >= weight:
            return price
    return prices[-1][0]


@dataclass(frozen=True, slots=True)
class RequestContext:
    """Context of a request.

    `item_id` is the item that the visitor looks at; empty for none.
    """

    now_ms: int
    item_id: str = ""
    utc_offset_minutes: int = 0


def request_features(
    context: RequestContext,
    visitor: VisitorState | None,
    items: Mapping[str, Attributes],
    attribute: str,
) -> dict[str, Any]:
    """The features of `views.REQUEST`. A visitor of None was never seen. `items` has those of the
    request and the sequence, as far as known; `attribute` is that of `item_affinity`.
    """
    now_ms = context.now_ms
    local = datetime.fromtimestamp(now_ms / 1000, UTC).timestamp() + context.utc_offset_minutes * 60
    moment = datetime.fromtimestamp(local, UTC)
    sequence = visitor.sequence if visitor else []
    since = visitor_features(visitor, now_ms, ("hours_since_last",))["hours_since_last"]
    band, price = price_band(sequence, items, now_ms), price_of(items.get(context.item_id))
    known = price is not None and band.typical > 0.0
    shares = dict(affinities(sequence, items, attribute, now_ms))
    values = values_of(items.get(context.item_id) or {}, attribute)
    return {
        "hour_of_day": moment.hour,
        "day_of_week": moment.weekday(),
        "days_since_last_visit": since / 24 if since >= 0.0 else -1.0,
        "item_price": price if price is not None else -1.0,
        "price_to_typical": price / band.typical if known and price is not None else -1.0,
        "in_price_band": int(band.low <= price <= band.high) if known and price is not None else -1,
        "item_events": sum(
            event.item_id == context.item_id and event.timestamp <= now_ms for event in sequence
        ),
        "item_affinity": max((shares.get(value, 0.0) for value in values), default=0.0),
    }
