"""What a visitor is drawn to: values of item attributes, and prices, in the recent sequence,
decayed by time.

Nothing of it is stored. It is computed of the sequence and of the items' attributes as they are
known when it is asked for, so a catalogue entry that comes late counts, and a correction does, too.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite
from typing import Any, Final, NamedTuple

from slipstream.contracts.times import DAY_MS
from slipstream.contracts.vocabulary import signal_weight
from slipstream.features.visitor import SequenceEvent

HALF_LIFE_MS: Final = 14 * DAY_MS
# So many values of an attribute are given out, the strongest.
VALUES: Final = 10
PRICE: Final = "price"
NO_PRICE: Final = -1.0

Attributes = Mapping[str, Any]


class PriceBand(NamedTuple):
    """The lower quartile, median and upper quartile of prices; -1 each when no price is known."""

    low: float = NO_PRICE
    typical: float = NO_PRICE
    high: float = NO_PRICE


def affinities(
    sequence: Sequence[SequenceEvent], items: Mapping[str, Attributes], attribute: str, now_ms: int
) -> list[tuple[str, float]]:
    """The values of an attribute, strongest first, and the share of each, which add up to 1.

    An event speaks for its item's value by the weight of its type, halved each `HALF_LIFE_MS`; for
    several values (a list), by an equal part for each. Events after `now_ms`, and items of which
    `items` does not know the attribute, say nothing.
    """
    found: dict[str, float] = {}
    for weight, attributes in _weighted(sequence, items, now_ms):
        values = texts(attributes.get(attribute))
        for value in values:
            found[value] = found.get(value, 0.0) + weight / len(values)
    total = sum(found.values())
    if total <= 0.0:
        return []
    return [
        (value, weight / total)
        for value, weight in sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))
    ]


def price_band(
    sequence: Sequence[SequenceEvent], items: Mapping[str, Attributes], now_ms: int
) -> PriceBand:
    """Where the prices lie of what the visitor dealt with up to `now_ms`, by the same weights as
    `affinities`.
    """
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


def texts(value: Any) -> list[str]:
    """The values of an attribute as texts, each once: one for a text, number or truth value,
    several for a list, else none.
    """
    if isinstance(value, list | tuple):
        return list(
            dict.fromkeys(
                text for one in value if not isinstance(one, list | tuple) for text in texts(one)
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
    """The features of `slipstream.features.views.affinity_view(attributes)` at `now_ms`; the
    defaults where nothing is known.
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
    """The first price up to which so much of the weight lies."""
    reached = 0.0
    for price, own in prices:
        reached += own
        if reached >= weight:
            return price
    return prices[-1][0]
