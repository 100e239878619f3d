"""Features of the ranker for a candidate: retrievers' scores, the item, its match to the history.

They come from the history at the moment of the question and from items as they were when the bundle
was fitted, so that a validation query sees nothing of its answer or later.

An item's appeal is the readiness with which it is taken once a visitor looks at it. The
position-based click model, P(taken) = P(place is looked at) x appeal(item), separates it from the
place in the list: N. Craswell, O. Zoeter, M. Taylor, B. Ramsey, "An Experimental Comparison of
Click Position-Bias Models", WSDM 2008; X. Wang et al., "Position Bias Estimation for Unbiased
Learning to Rank in Personal Search", WSDM 2018. An item that was shown and passed over loses
appeal, the more the higher it stood.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from slipstream.models.base import Arrays, History, Impressions, Indices, InteractionLog, Scores
from slipstream.models.ranker import Ranker

_ROUNDS = 20
# Views of an average item that are added to each item, so that few views say little.
_PRIOR = 20.0
# The last place that is distinguished; all places further down are one.
_PLACES = 100


def fit_appeal(shown: Impressions, n_items: int) -> tuple[Scores, Scores]:
    """Fit the appeal of items and the examination of places, each in turn given the other.

    Both are the likeliest values for counts that are Poisson.

    Returns:
        The logarithm of each item's appeal relative to the average, 0 for items never shown; and
        the share of views of each place, relative to the first.
    """
    place = np.minimum(shown.position, _PLACES - 1)
    taken = shown.taken.astype(np.float64)
    looked = np.ones(_PLACES)
    appeal = np.ones(n_items)
    if not taken.any():
        return np.zeros(n_items, np.float32), looked.astype(np.float32)
    by_item, by_place = np.bincount(shown.item, taken, n_items), np.bincount(place, taken, _PLACES)
    rate = taken.mean()
    for _ in range(_ROUNDS):
        expected = np.bincount(place, appeal[shown.item], _PLACES)
        looked = np.where(expected > 0, by_place / np.maximum(expected, 1e-12), rate)
        appeal = (by_item + _PRIOR * rate) / (
            np.bincount(shown.item, looked[place], n_items) + _PRIOR * rate
        )
    return np.log(appeal).astype(np.float32), (looked / max(looked[0], 1e-12)).astype(np.float32)


# Places of a retriever's list that differ to the ranker; below them all are the same.
TOP = 20
# Most attributes with a match to the history as a feature.
_MOST_ATTRIBUTES = 6
# Latest events of the history that a candidate is compared with.
_LATEST = 20
# The trend compares the latest of so many parts of the log's events with all.
_TREND_PARTS = 20
# Length of a history in service, see slipstream.features.visitor.
_LONGEST = 100
_LEAST = 1e-7


@dataclass(frozen=True)
class ItemTable:
    """The items as the ranker knows them, one entry an item.

    Attributes:
        numbers: (items, 4): logarithm of the item's share of all events; logarithm of its share of
            the latest twentieth of the events over that share; its age as a share of the log's
            span; its appeal where it was shown.
        codes: (attributes, items): which value the item has of each telling attribute, -1 for none.
        price: Logarithm of the price plus 1, 0 for none.
    """

    numbers: Scores
    codes: NDArray[np.int32]
    price: Scores

    def arrays(self) -> Arrays:
        return {"numbers": self.numbers, "codes": self.codes, "price": self.price}

    @classmethod
    def restore(cls, arrays: Arrays) -> Self:
        return cls(**arrays)


def item_table(
    log: InteractionLog, item_ids: Sequence[str], attributes: Mapping[str, Mapping[str, Any]]
) -> ItemTable:
    """The table of the items as of the end of the log."""
    n_items = log.n_items
    count = np.bincount(log.item, log.weight, n_items)
    latest = log.timestamp >= np.quantile(log.timestamp, 1 - 1 / _TREND_PARTS)
    recent = np.bincount(log.item[latest], log.weight[latest], n_items)
    share, recent_share = count / max(count.sum(), _LEAST), recent / max(recent.sum(), _LEAST)
    first = np.full(n_items, log.timestamp.max(), np.int64)
    np.minimum.at(first, log.item, log.timestamp)
    span = max(1, int(np.ptp(log.timestamp)))
    trend = np.log((recent_share + 1e-5) / (share + 1e-5))
    appeal = fit_appeal(log.impressions, n_items)[0] if log.impressions else np.zeros(n_items)
    numbers = np.stack(
        (np.log(share + _LEAST), trend, (log.timestamp.max() - first) / span, appeal), axis=1
    )
    codes = [_coded(name, item_ids, attributes) for name in _telling(attributes)]
    price = [_price(attributes.get(item_id, {}).get("price")) for item_id in item_ids]
    return ItemTable(
        numbers.astype(np.float32),
        np.stack(codes) if codes else np.empty((0, n_items), np.int32),
        np.log1p(np.array(price, np.float64)).astype(np.float32),
    )


def ranking_features(
    table: ItemTable, history: History, items: Indices, by_retriever: Scores
) -> Scores:
    """The features of the candidates of one history, (candidates, features). `by_retriever` has the
    features of the blend, (candidates, retrievers).
    """
    size, retrievers = by_retriever.shape
    numbers, attributes = table.numbers.shape[1], len(table.codes)
    features = np.zeros((size, 2 * retrievers + numbers + attributes + 6), np.float32)
    if not size:
        return features
    features[:, :retrievers] = by_retriever - by_retriever.max(axis=0)
    features[:, retrievers : 2 * retrievers] = _reciprocal_ranks(by_retriever)
    column = 2 * retrievers
    features[:, column : column + numbers] = table.numbers[items]
    column += numbers

    latest = history.item[::-1][:_LATEST]
    weight = 1 / np.arange(1, len(latest) + 1, dtype=np.float32)
    weight /= max(float(weight.sum()), _LEAST)
    for codes in table.codes:
        seen, theirs = codes[latest], codes[items]
        known = seen >= 0
        match = (
            np.bincount(seen[known], weight[known], int(theirs.max(initial=0)) + 1)
            if known.any()
            else np.zeros(1)
        )
        features[:, column] = np.where(
            (theirs >= 0) & (theirs < len(match)), match[np.minimum(theirs, len(match) - 1)], 0
        )
        column += 1
    again = items[:, None] == latest
    features[:, column] = (again * weight).sum(axis=1)
    features[:, column + 1] = again.any(axis=1)
    prices = table.price[latest]
    if (prices > 0).any():
        usual = float((prices * weight)[prices > 0].sum() / weight[prices > 0].sum())
        features[:, column + 2] = np.where(table.price[items] > 0, table.price[items] - usual, 0)
    features[:, column + 3] = np.log1p(min(len(history.item), _LONGEST))
    features[:, column + 4] = len(set(latest.tolist())) / max(1, len(latest))
    if len(history.item) > 1:
        features[:, column + 5] = np.log1p(
            max(0, int(history.timestamp[-1] - history.timestamp[-2])) / 1_000
        )
    return features


def feature_names(
    retrievers: Sequence[str], attributes: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Names for people of the columns of `ranking_features`.

    `attributes` are those that the item table was made with.
    """
    return [
        *(f"{name} score" for name in retrievers),
        *(f"{name} rank" for name in retrievers),
        *("item popularity", "item trend", "item age", "item appeal"),
        *(f"same {name}" for name in _telling(attributes)),
        *(
            "seen lately",
            "seen",
            "price against usual",
            "history length",
            "history variety",
            "last pause",
        ),
    ]


def _reciprocal_ranks(scores: Scores) -> Scores:
    """The reciprocal of each score's rank in its column: 1, 1/2, … down to `TOP`, then 0."""
    result = np.zeros_like(scores)
    top = min(TOP, len(scores))
    order = np.argsort(-scores, axis=0, kind="stable")[:top]
    np.put_along_axis(result, order, (1 / np.arange(1, top + 1, dtype=np.float32))[:, None], 0)
    return result


def _telling(attributes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The attributes that tell items apart, the most detailed first.

    Half of the described items have such an attribute. It has at least two values, and on average
    three items or more a value.
    """
    values: dict[str, list[str]] = {}
    for entry in attributes.values():
        for name, value in entry.items():
            if (text := _value(value)) is not None:
                values.setdefault(name, []).append(text)
    distinct = {
        name: len(set(texts)) for name, texts in values.items() if 2 * len(texts) >= len(attributes)
    }
    telling = [name for name, number in distinct.items() if 2 <= number <= len(values[name]) / 3]
    return sorted(telling, key=lambda name: (-distinct[name], name))[:_MOST_ATTRIBUTES]


def _coded(
    name: str, item_ids: Sequence[str], attributes: Mapping[str, Mapping[str, Any]]
) -> NDArray[np.int32]:
    values = [_value(attributes.get(item_id, {}).get(name)) for item_id in item_ids]
    code = {
        value: place
        for place, value in enumerate(sorted({value for value in values if value is not None}))
    }
    return np.array([-1 if value is None else code[value] for value in values], np.int32)


def _value(value: Any) -> str | None:
    """An attribute's value as text, a list's first element; None for an empty one."""
    if isinstance(value, list | tuple):
        value = value[0] if value else None
    return None if value is None or value == "" else str(value)


def _price(value: Any) -> float:
    """The price as a number, 0 for none."""
    return float(value) if isinstance(value, int | float) and value > 0 else 0.0


@dataclass(frozen=True)
class Ranking:
    """A ranker, the items as it knows them, and the names of its features, by column."""

    ranker: Ranker
    items: ItemTable
    features: Sequence[str] = ()

    def correct(self, history: History, items: Indices, by_retriever: Scores) -> Scores:
        """The correction to add to the blend's score of each candidate. `by_retriever` has the
        features of the blend, (candidates, retrievers).
        """
        return self.ranker.correct(ranking_features(self.items, history, items, by_retriever))
