"""Popularity with a half-life: the items in demand at present, the same for every visitor.

Exponential forgetting is the standard treatment of trends. Y. Ji, A. Sun, J. Zhang, C. Li, "A
Re-visit of the Popularity Baseline in Recommender Systems", SIGIR 2020, says why popularity must be
counted as of a moment.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from slipstream.models.base import (
    Arrays,
    History,
    Indices,
    InteractionLog,
    Parameters,
    Scores,
    SparseScores,
)

# Only the most popular items are proposed, so that a request does not cost more in a larger
# catalogue.
HEAD = 1_000


@dataclass(frozen=True)
class Popularity:
    """Each item's share of all (decayed) events. `head` holds the most popular items."""

    share: NDArray[np.float32]
    head: Indices

    kind: ClassVar[str] = "popularity"
    logarithmic: ClassVar[bool] = True

    def score(self, history: History) -> SparseScores:  # noqa: ARG002
        return SparseScores(self.head, self.share[self.head])

    def score_at(self, scored: SparseScores, items: Indices) -> Scores:  # noqa: ARG002
        return self.share[items]

    def arrays(self) -> Arrays:
        return {"share": self.share, "head": self.head}

    def parameters(self) -> Parameters:
        return {}

    @classmethod
    def restore(cls, arrays: Arrays, parameters: Parameters) -> Self:  # noqa: ARG003
        return cls(arrays["share"], arrays["head"])


def fit_popularity(log: InteractionLog, half_life_ms: float | None = None) -> Popularity:
    """Count weighted events, each halved for every `half_life_ms` before the log's last event."""
    weight = log.weight.astype(np.float64)
    if half_life_ms is not None and len(log):
        weight *= np.exp2((log.timestamp - log.timestamp.max()) / half_life_ms)
    count = np.bincount(log.item, weight, log.n_items)
    share = (count / max(count.sum(), 1e-12)).astype(np.float32)
    head = np.sort(np.argsort(-share, kind="stable")[:HEAD]).astype(np.int32)
    return Popularity(share, head)
