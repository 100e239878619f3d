"""Affinities of a visitor to values of item attributes and to prices, decayed by time.

They are computed from the recent sequence and the items' attributes as known at the moment of
asking, and not stored. So a catalogue entry that comes late counts, and so does a correction.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite
from typing import Any, Final, NamedTuple

from slipstream.contracts.times import DAY_MS
from slipstream.contracts.vocabulary import signal_weight
from slipstream.features.visitor import SequenceEvent

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
    Events after `now_ms` and items without the attribute do not count.

    Args:
        sequence: the visitor's recent events, oldest first.
        items: attributes by item id, as far as they are known.
        attribute: the attribute's name.
        now_ms: the moment, in ms.
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
    """The features of `views.affinity_view(attributes)`; the defaults where nothing is known.

    Args:
        sequence: the visitor's recent events, oldest first.
        items: attributes by item id, as far as they are known.
        now_ms: the moment, in ms.
        attributes: the attributes that have affinities.
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
            weight = signal_weight(event.event_type) * 2.0 ** (
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
