"""Popularity with a half-life: the items in demand at present, the same for every visitor.

Exponential forgetting is the standard treatment of trends. Y. Ji, A. Sun, J. Zhang, C. Li, "A
Re-visit of the Popularity Baseline in Recommender Systems", SIGIR 2020, says why popularity must be
counted as of a moment.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from slipstream.models.base import (
    Arrays,
    History,
    Indices,
    InteractionLog,
    Mask,
    Parameters,
    Scores,
    SparseScores,
)

# Only the most popular items have a score, so that a request does not cost more in a larger
# catalogue. Further ones are proposed only where a mask leaves too few of these.
HEAD = 1_000
# So few allowed items are sorted; more are looked for in the order of popularity.
_SORTED = 20_000


@dataclass(frozen=True)
class Popularity:
    """Each item's share of all (decayed) events, and the items in order, the most popular first."""

    share: NDArray[np.float32]
    order: Indices

    kind: ClassVar[str] = "popularity"
    logarithmic: ClassVar[bool] = True

    def score(self, history: History) -> SparseScores:  # noqa: ARG002
        return SparseScores(self.head, self.share[self.head])

    def score_at(self, scored: SparseScores, items: Indices) -> Scores:  # noqa: ARG002
        return self.share[items]

    @cached_property
    def head(self) -> Indices:
        """The most popular items, in the order of the catalogue."""
        return np.sort(self.order[:HEAD])

    def propose(self, scored: SparseScores, limit: int, allowed: Mask | None) -> Indices:
        best = scored.best(limit, allowed)
        if len(best) == limit or allowed is None:
            return best
        if np.count_nonzero(allowed) <= _SORTED:
            places = np.flatnonzero(allowed).astype(np.int32)
            return SparseScores(places, self.share[places]).best(limit)
        return self._next_in_order(limit, allowed)

    def _next_in_order(self, limit: int, allowed: Mask) -> Indices:
        """The first `limit` allowed items of the order, which is read in growing parts."""
        found: list[Indices] = []
        begin, size, missing = 0, HEAD, limit
        while missing > 0 and begin < len(self.order):
            part = self.order[begin : begin + size]
            part = part[allowed[part]][:missing]
            found.append(part)
            missing -= len(part)
            begin, size = begin + size, 2 * size
        return np.concatenate(found)

    def arrays(self) -> Arrays:
        return {"share": self.share, "order": self.order}

    def parameters(self) -> Parameters:
        return {}

    @classmethod
    def restore(cls, arrays: Arrays, parameters: Parameters) -> Self:  # noqa: ARG003
        return cls(arrays["share"], arrays["order"])


def fit_popularity(log: InteractionLog, half_life_ms: float | None = None) -> Popularity:
    """Count weighted events, each halved for every `half_life_ms` before the log's last event."""
    weight = log.weight.astype(np.float64)
    if half_life_ms is not None and len(log):
        weight *= np.exp2((log.timestamp - log.timestamp.max()) / half_life_ms)
    count = np.bincount(log.item, weight, log.n_items)
    share = (count / max(count.sum(), 1e-12)).astype(np.float32)
    return Popularity(share, np.argsort(-share, kind="stable").astype(np.int32))
