"""Sequential item-to-item rules: an item votes for those that followed it, the sooner the more.

M. Ludewig, D. Jannach, "Evaluation of session-based recommendation algorithms", User Modeling and
User-Adapted Interaction 28, 2018 (sequential rules, section 3.1), with three additions chosen on
validation: decay by the time between the two events, a share for the reverse direction, and a
discount for targets that follow everything.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from slipstream.models.base import InteractionLog
from slipstream.models.neighbours import HistoryWeighting, ItemToItem

_PAIRS_AT_ONCE = 20_000_000


@dataclass(frozen=True)
class RulesParameters:
    # The largest distance, in events, between the two items of a pair.
    window: int = 10
    # A pair at distance d counts d ** -distance_exponent.
    distance_exponent: float = 1.0
    # A pair this far apart in time counts half.
    half_life_ms: float | None = None
    # What a pair counts in the reverse direction, relative to forward.
    backward: float = 0.0
    # Votes are divided by (all votes for the target) ** popularity_exponent.
    popularity_exponent: float = 0.0
    weighting: HistoryWeighting = field(
        default_factory=lambda: HistoryWeighting(position_exponent=1.0)
    )


def fit_rules(log: InteractionLog, parameters: RulesParameters) -> ItemToItem:
    """Fit the rules from the pairs of each visitor's sequence.

    An item's votes are shares of the transitions from it.
    """
    return ItemToItem.of(rule_matrix(log, parameters), parameters.weighting)


def rule_matrix(log: InteractionLog, parameters: RulesParameters) -> "sparse.csr_array[Any, Any]":
    """All rules, before the weakest are dropped.

    A row sums to 1 where anything followed its item, else to 0.
    """
    shape = (log.n_items, log.n_items)
    total: Any = sparse.csr_array(shape, dtype=np.float32)
    pending: list[tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]] = []
    pairs = 0
    for distance in range(1, parameters.window + 1):
        pair = _pairs(log, distance, parameters)
        pending.append(pair)
        pairs += len(pair[0])
        if pairs > _PAIRS_AT_ONCE or distance == parameters.window:
            source, target, weight = (np.concatenate(parts) for parts in zip(*pending, strict=True))
            total = total + sparse.coo_array((weight, (source, target)), shape=shape).tocsr()
            pending, pairs = [], 0
    if parameters.backward:
        total = (total + parameters.backward * total.T).tocsr()
    if parameters.popularity_exponent:
        into = np.asarray(total.sum(axis=0)).ravel()
        total.data = (
            total.data / np.maximum(into, 1e-9)[total.indices] ** parameters.popularity_exponent
        )
    out_of = np.asarray(total.sum(axis=1)).ravel()
    shares = total.data / np.repeat(np.maximum(out_of, 1e-12), np.diff(total.indptr))
    return sparse.csr_array((shares.astype(np.float32), total.indices, total.indptr), shape=shape)


def _pairs(
    log: InteractionLog, distance: int, parameters: RulesParameters
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    source, target = log.item[:-distance], log.item[distance:]
    kept = (log.user[:-distance] == log.user[distance:]) & (source != target)
    weight = log.weight[distance:][kept] * np.float32(distance**-parameters.distance_exponent)
    if parameters.half_life_ms is not None:
        apart = (log.timestamp[distance:] - log.timestamp[:-distance])[kept]
        weight = weight * np.exp2(-apart / parameters.half_life_ms, dtype=np.float32)
    return source[kept], target[kept], weight
