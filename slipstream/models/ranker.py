"""The ranker: a small network that corrects the blend by features of item, visitor and their match.

Z. Cao et al., "Learning to Rank: From Pairwise Approach to Listwise Approach", ICML 2007 (the
softmax over the candidates of a query). Its output is added to the blend's score, so that an
untrained ranker is the blend. NumPy alone reads it.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from slipstream.models.base import Arrays, Scores

_FURTHEST = 10.0


@dataclass(frozen=True)
class Ranker:
    """The `mean` and `scale` of each feature, and two layers, of 32 hidden units at most."""

    mean: Scores
    scale: Scores
    hidden: Scores
    hidden_bias: Scores
    out: Scores

    def correct(self, features: Scores) -> Scores:
        """The correction of the blend's score for each candidate (candidates, features)."""
        normal = normalised(features, self.mean, self.scale)
        active = np.maximum(normal @ self.hidden + self.hidden_bias, 0)
        return np.asarray(active @ self.out, np.float32)

    def arrays(self) -> Arrays:
        return {
            name: getattr(self, name) for name in ("mean", "scale", "hidden", "hidden_bias", "out")
        }

    @classmethod
    def restore(cls, arrays: Arrays) -> Self:
        return cls(**arrays)


def normalised(features: Scores, mean: NDArray[Any], scale: NDArray[Any]) -> Scores:
    """Features in deviations from the mean, cut to the range that training has seen often."""
    return np.asarray(np.clip((features - mean) * scale, -_FURTHEST, _FURTHEST), np.float32)
