"""Features of a request: what is known only when somebody asks, set against the states of the
visitor and the item.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from slipstream.features.affinity import Attributes, affinities, price_band, price_of, texts
from slipstream.features.visitor import VisitorState, visitor_features


@dataclass(frozen=True, slots=True)
class RequestContext:
    """What a request brings: its moment, the item that is looked at (if one is), and how far the
    visitor's clock is from UTC.
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
    """The features of `slipstream.features.views.REQUEST`.

    `items` has the attributes of the request's item and of those of the visitor's sequence, as far
    as they are known; `attribute` is the one that `item_affinity` is about.
    """
    now_ms = context.now_ms
    local = datetime.fromtimestamp(now_ms / 1000, UTC).timestamp() + context.utc_offset_minutes * 60
    moment = datetime.fromtimestamp(local, UTC)
    sequence = visitor.sequence if visitor else []
    since = visitor_features(visitor, now_ms, ("hours_since_last",))["hours_since_last"]
    band, price = price_band(sequence, items, now_ms), price_of(items.get(context.item_id))
    known = price is not None and band.typical > 0.0
    shares = dict(affinities(sequence, items, attribute, now_ms))
    values = texts((items.get(context.item_id) or {}).get(attribute))
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
