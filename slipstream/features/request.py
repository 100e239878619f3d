"""Features of a request: its moment, and its item compared with the visitor's state."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from slipstream.features.affinity import Attributes, affinities, price_band, price_of, values_of
from slipstream.features.visitor import VisitorState, visitor_features


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
    """The features of `views.REQUEST`.

    Args:
        context: the request.
        visitor: the visitor's state; None when never seen.
        items: attributes of the request's item and of the sequence's items, as far as known.
        attribute: the attribute of `item_affinity`.
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
