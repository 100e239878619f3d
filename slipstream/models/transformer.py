"""A transformer over the visitor's sequence: the probability of every item to come next.

W.-C. Kang, J. McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018 (SASRec), with what
later work found better: blocks normalised before each part, their output gated (LiGR: "From
Features to Transformers", 2025; eSASRec: RecSys 2025), a SwiGLU feed-forward (N. Shazeer, 2020),
and attention biases by distance in events and in time (J. Zhai et al., "Actions Speak Louder than
Words", ICML 2024).

`transformer_fit` trains it with torch. Serving needs NumPy alone, and computes only the state of
the last event.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from slipstream.models.base import (
    Arrays,
    History,
    Indices,
    Mask,
    Parameters,
    Scores,
    SparseScores,
)
from slipstream.models.content_index import described, hashes
from slipstream.models.nearest import Nearest

if TYPE_CHECKING:
    from slipstream.models.content import FittedTerms

BUCKETS = 32
_NEAR = 16


@dataclass(frozen=True)
class Shape:
    """The sizes of the network. `kinds` are the event weights that it tells apart, ascending."""

    # The number of latest events that are read.
    window: int
    heads: int
    kinds: tuple[float, ...]


def distance_buckets(length: int) -> NDArray[np.int64]:
    """The bucket (length, length) of the distance from event i back to event j.

    Below 16 each distance has its own, then each doubling has four.
    """
    places = np.arange(length)
    apart = np.maximum(places[:, None] - places[None], 0)
    far = _NEAR + 4 * np.log2(np.maximum(apart, 1) / _NEAR)
    return np.asarray(np.where(apart < _NEAR, apart, np.minimum(far, BUCKETS - 1)), np.int64)


def gap_buckets(gaps_ms: NDArray[Any]) -> NDArray[np.int64]:
    """The buckets of times between events: one for each doubling, from a second to centuries."""
    return np.asarray(
        np.minimum(np.log2(np.maximum(gaps_ms, 0) / 1_000 + 1), BUCKETS - 1), np.int64
    )


def kind_of(weights: NDArray[Any], kinds: tuple[float, ...]) -> NDArray[np.int64]:
    """The place in `kinds` (ascending) of each weight, or of the next smaller one."""
    return np.clip(
        np.searchsorted(np.array(kinds, np.float32), weights, side="right") - 1, 0, len(kinds) - 1
    )


@lru_cache(maxsize=256)
def _places(length: int) -> tuple[NDArray[np.int64], Scores]:
    """The buckets of distances in a sequence, and the mask that hides later events."""
    return distance_buckets(length), np.triu(np.full((length, length), -1e9, np.float32), 1)


@dataclass(frozen=True)
class Transformer:
    """The network's weights, named as in `transformer_network.Network`, and the index of items.

    Its scores are probabilities over the catalogue. The weights of blocks are stacked. Where items
    have attributes, `terms` has the vectors of their terms, and `term_hashes` and `term_rarities`
    tell the terms (`of_terms`).
    """

    weights: Arrays
    items: Nearest
    shape: Shape

    kind: ClassVar[str] = "transformer"
    logarithmic: ClassVar[bool] = True

    def score(self, history: History) -> SparseScores:
        if not len(history.item):
            return SparseScores(np.empty(0, np.int32), np.empty(0, np.float32))
        return self.items.probabilities(self.state(history))

    def score_at(self, scored: SparseScores, items: Indices) -> Scores:
        return self.items.probabilities_of(scored, items)

    def propose(self, scored: SparseScores, limit: int, allowed: Mask | None) -> Indices:
        return self.items.best(scored, limit, allowed)

    def state(self, history: History) -> Scores:
        """The network's state (dim) at the last event of a history."""
        w, shape = self.weights, self.shape
        item, time = history.item[-shape.window :], history.timestamp[-shape.window :]
        length = len(item)
        x = self.items.vectors(item) * np.float32(np.sqrt(self.items.rows.shape[1]))
        x += w["kinds"][kind_of(history.weight[-shape.window :], shape.kinds)]
        near, unseen = _places(length)
        late = gap_buckets(time[:, None] - time)
        last = len(w["qkv"]) - 1
        for block in range(last + 1):
            # The last block computes the last event alone.
            own = slice(length - 1, None) if block == last else slice(None)
            bias = w["distance"][block][:, near[own]] + w["gap"][block][:, late[own]] + unseen[own]
            x = self._block(x, own, bias, block)
        return np.asarray(_normal(x[-1:], w["norm"])[0], np.float32)

    def of_terms(self, found: "FittedTerms") -> "Transformer":
        """The network with the terms that its items were trained with."""
        hashed = hashes(found.names)
        order = np.argsort(hashed)
        told: Arrays = {
            "terms": self.weights["terms"][order],
            "term_hashes": hashed[order],
            "term_rarities": found.rarities[order],
        }
        return replace(self, weights={**self.weights, **told})

    @property
    def knows_terms(self) -> bool:
        """Whether it has a vector for an item that it has not met."""
        return "term_hashes" in self.weights

    def described(self, attributes: Mapping[str, Any]) -> Scores:
        """The vector (dim) of an item that it has not met, from its attributes alone."""
        w = self.weights
        return described(w["term_hashes"], w["term_rarities"], w["terms"], attributes)

    def _block(self, x: Scores, own: slice, bias: Scores, block: int) -> Scores:
        w, heads = self.weights, self.shape.heads
        dim = x.shape[1]
        y = _normal(x, w["attention_norm"][block])
        qkv = (y @ w["qkv"][block].T).reshape(len(x), 3, heads, dim // heads).transpose(1, 2, 0, 3)
        x, y = x[own], y[own]
        attention = (
            qkv[0][:, own] @ qkv[1].transpose(0, 2, 1) * np.float32((dim // heads) ** -0.5) + bias
        )
        attention = np.exp(attention - attention.max(axis=-1, keepdims=True))
        attention /= attention.sum(axis=-1, keepdims=True)
        seen = (attention @ qkv[2]).transpose(1, 0, 2).reshape(len(x), dim) @ w["out"][block].T
        x = x + _sigmoid(y @ w["attention_gate"][block].T + w["attention_gate_bias"][block]) * seen
        y = _normal(x, w["feed_norm"][block])
        up_gate = y @ w["up"][block].T
        up, gate = up_gate[:, : up_gate.shape[1] // 2], up_gate[:, up_gate.shape[1] // 2 :]
        fed = (gate * _sigmoid(gate) * up) @ w["down"][block].T
        result: Scores = (
            x + _sigmoid(y @ w["feed_gate"][block].T + w["feed_gate_bias"][block]) * fed
        )
        return result

    def arrays(self) -> Arrays:
        return {**self.weights, **self.items.arrays()}

    def parameters(self) -> Parameters:
        return {"shape": asdict(self.shape)}

    @classmethod
    def restore(cls, arrays: Arrays, parameters: Parameters) -> Self:
        nearest = Nearest.restore(arrays)
        shape = Shape(**{**parameters["shape"], "kinds": tuple(parameters["shape"]["kinds"])})
        return cls(
            {name: array for name, array in arrays.items() if name not in nearest.arrays()},
            nearest,
            shape,
        )


def _normal(x: Scores, scale: Scores) -> Scores:
    """Root mean square normalisation: B. Zhang, R. Sennrich, NeurIPS 2019."""
    squares = np.einsum("ij,ij->i", x, x) / np.float32(x.shape[1])
    return np.asarray(x * (1 / np.sqrt(squares + np.float32(1e-6)))[:, None] * scale, np.float32)


def _sigmoid(x: Scores) -> Scores:
    return np.asarray(1 / (1 + np.exp(-np.maximum(x, np.float32(-60)))), np.float32)


@dataclass(frozen=True)
class TransformerParameters:
    dim: int = 64
    blocks: int = 2
    heads: int = 2
    window: int = 50
    dropout: float = 0.4
    learning_rate: float = 4e-3
    weight_decay: float = 0.3
    # Standard deviation of the items' own vectors at the start.
    own_scale: float = 0.02
    # Share of the items that are in a step by their attributes alone, where there are any: items
    # without events then have something to go by. 0 leaves each its own vector.
    unnamed: float = 0.2
    # Probability that a label lies one event further ahead, and again from there.
    ahead: float = 0.15
    # Events of a step, of all processes together.
    batch: int = 1_500
    # Items drawn in a step to stand for a catalogue of more than twice as many; a smaller one is
    # compared whole.
    negatives: int = 1_500
    epochs: int = 30
    # Epochs without a better validation that end the training.
    patience: int = 8
