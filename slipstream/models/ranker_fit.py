"""Fitting the ranker with torch; `ranker` reads it without."""

import numpy as np
import torch
from numpy.typing import NDArray

from slipstream.models.base import Scores
from slipstream.models.ranker import HIDDEN, Ranker, normalised

_DECAY = 1e-3
_LEARNING_RATE = 3e-3
_EPOCHS = 40
_PATIENCE = 4
_QUERIES_A_STEP = 64
_LEAST_DEVIATION = 1e-3
# A smaller gain in likelihood is chance.
_LEAST_GAIN = 1e-3


def fit_ranker(
    features: Scores,
    blended: Scores,
    queries: NDArray[np.int64],
    labels: NDArray[np.int64],
    groups: NDArray[np.int32],
    seed: int = 0,
) -> Ranker | None:
    """The ranker that makes the labels likeliest, or None where the blend alone predicts unseen
    queries as well.

    `features` (candidates, features) and `blended`, the blend's score, hold the candidates of one
    query after the other; `queries` is the first row of each query, ascending from 0, `labels` the
    row of the item that came next, `groups` the visitor of each query: a fifth of the groups
    decides when to stop, and whether the ranker earns its place.
    """
    if len(queries) < 10 * _QUERIES_A_STEP:
        return None
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    whole = np.unique(groups)
    unseen = np.isin(groups, random.choice(whole, max(1, len(whole) // 5), replace=False))
    length = np.diff(np.append(queries, len(features)))
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    # What was always the same here says nothing, and must not begin to when it changes in service.
    scale = np.where(deviation > _LEAST_DEVIATION, 1 / np.maximum(deviation, _LEAST_DEVIATION), 0)
    normal = torch.from_numpy(normalised(features, mean, scale))
    base = torch.from_numpy(blended.astype(np.float32))
    width = features.shape[1]
    hidden = torch.nn.Parameter(torch.randn(width, HIDDEN) * (2 / width) ** 0.5)
    bias = torch.nn.Parameter(torch.zeros(HIDDEN))
    out = torch.nn.Parameter(torch.zeros(HIDDEN))
    optimiser = torch.optim.AdamW([hidden, bias, out], lr=_LEARNING_RATE, weight_decay=_DECAY)

    def loss(chosen: NDArray[np.int64]) -> torch.Tensor:
        """The mean negative log-likelihood of the labels of these queries."""
        longest = int(length[chosen].max())
        places = np.arange(longest)
        real = places < length[chosen, None]
        rows = torch.from_numpy(np.where(real, queries[chosen, None] + places, 0))
        flat = rows.flatten()
        score = base[flat] + torch.relu(normal[flat] @ hidden + bias) @ out
        score = score.view(rows.shape).masked_fill(torch.from_numpy(~real), -1e9)
        return torch.nn.functional.cross_entropy(
            score, torch.from_numpy(labels[chosen] - queries[chosen])
        )

    def unseen_loss() -> float:
        rows = np.flatnonzero(unseen)
        with torch.no_grad():
            parts = [
                (len(part), float(loss(part)))
                for part in np.array_split(rows, max(1, len(rows) // 256))
            ]
        return sum(size * value for size, value in parts) / len(rows)

    best, kept, waited = unseen_loss(), None, 0
    seen = np.flatnonzero(~unseen)
    for _ in range(_EPOCHS):
        random.shuffle(seen)
        for begin in range(0, len(seen), _QUERIES_A_STEP):
            optimiser.zero_grad()
            loss(seen[begin : begin + _QUERIES_A_STEP]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        found = unseen_loss()
        if found < best * (1 - _LEAST_GAIN):
            best, waited = found, 0
            kept = [value.detach().clone().numpy() for value in (hidden, bias, out)]
        else:
            waited += 1
            if waited == _PATIENCE:
                break
    if kept is None:
        return None
    return Ranker(mean.astype(np.float32), scale.astype(np.float32), *kept)
