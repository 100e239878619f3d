"""Candidates of a slate, the visitor that it is for, and the rules with what they match."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slipstream.filters.conditions import Own
from slipstream.slates.arranging.policies import CompiledRule
from slipstream.slates.catalogue.masks import ItemMask, Items, Rows, mask

_NOTHING: Final[Mapping[Own, Collection[str]]] = dict.fromkeys(Own, ())


class Pool(NamedTuple):
    """The candidates of a slate, each once.

    Attributes:
        item_id: Returns the id of a candidate by its place; only accounts of rules name them.
        scores: Their scores, finite; those of one tier compare.
        tiers: The step of the fallback chain that each is from, from 0. Candidates of a later
            tier stand after all of an earlier one, unless they are pinned.
        items: The candidates' attributes, in the same order. Further items may follow, each once:
            those of the visitor, which calibration and `in seen` look up in here.
        cold: Whether little is known of a candidate, so that exploration may draw it; None for no
            such candidate.
        vectors: The model's vector of each candidate, (candidates, width), zeros for one without;
            None for no vectors.
    """

    item_id: Callable[[int], str]
    scores: NDArray[np.float64]
    tiers: NDArray[np.int64]
    items: Items
    cold: ItemMask | None = None
    vectors: NDArray[np.float32] | None = None


class Ranked(NamedTuple):
    """The candidates in their ranking, the order that they have by scores alone.

    Attributes:
        places: Their places in the pool. Places in this order are called rows.
        tiers: Their tiers, ascending.
        rows: Their rows in the catalogue.
    """

    places: NDArray[np.int64]
    tiers: NDArray[np.int64]
    rows: Rows


class Visitor(NamedTuple):
    """The visitor's past.

    Attributes:
        history: Ids of the items that they had to do with, latest first; perhaps several times.
        weights: The weight of each, for calibration; as many as the history has.
        own: The same items, as filters take them.
        impressions: How often an item was shown lately without a response, by its id.
    """

    history: Sequence[str] = ()
    weights: Sequence[float] = ()
    own: Mapping[Own, Collection[str]] = _NOTHING
    impressions: Mapping[str, int] = {}


class Match(NamedTuple):
    """A rule that counts, and which of the candidates it is about."""

    compiled: CompiledRule
    about: ItemMask


def matched(rules: Sequence[CompiledRule], pool: Pool, visitor: Visitor) -> list[Match]:
    """The candidates that each rule is about."""
    size = len(pool.scores)
    return [
        Match(
            rule,
            np.ones(size, np.bool_)
            if rule.condition is None
            else mask(rule.condition, pool.items, visitor.own)[:size],
        )
        for rule in rules
    ]
