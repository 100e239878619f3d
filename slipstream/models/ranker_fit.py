"""Fitting the ranker with torch; `ranker` reads it without."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from slipstream.models.base import Scores
from slipstream.models.distributed import one_thread
from slipstream.models.ranker import Ranker, normalised

_DECAY = 1e-3
_LEARNING_RATE = 3e-3
_EPOCHS = 40
_PATIENCE = 4
_QUERIES_A_STEP = 64
_LEAST_DEVIATION = 1e-3
# A smaller gain in likelihood is chance.
_LEAST_GAIN = 1e-3
# Small networks that make up the ranker, and the hidden units of each: four of 8 rank unseen
# queries better than one of 32 on three of four data sets (ADR 0114).
_PARTS, _UNITS = 4, 8


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

    It is the mean of four small networks. Each learns from three quarters of the visitors; the
    fourth decides when to stop, and whether the network earns its place (L. Breiman, "Bagging
    Predictors", Machine Learning 24, 1996). Half of the networks must.

    Args:
        features: Features of the candidates of one query after the other (candidates, features).
        blended: The blend's score of each candidate.
        queries: The first row of each query, ascending from 0.
        labels: The row of the item that came next, for each query.
    """
    if len(queries) < 10 * _QUERIES_A_STEP:
        return None
    random = np.random.default_rng(seed)
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    # What was always the same here says nothing, and must not begin to when it changes in service.
    scale = np.where(deviation > _LEAST_DEVIATION, 1 / np.maximum(deviation, _LEAST_DEVIATION), 0)
    questions = _Questions(
        torch.from_numpy(normalised(features, mean, scale)),
        torch.from_numpy(blended.astype(np.float32)),
        queries,
        np.diff(np.append(queries, len(features))),
        labels,
    )
    visitors = random.permutation(np.unique(groups))
    with one_thread():
        parts = [
            _fit_part(questions, np.isin(groups, some), _PARTS * seed + place)
            for place, some in enumerate(np.array_split(visitors, _PARTS))
            if len(some)
        ]
    networks = [part for part in parts if part]
    if 2 * len(networks) < len(parts):
        return None
    hidden, bias, out = (np.concatenate(each, axis=-1) for each in zip(*networks, strict=True))
    arrays = mean, scale, hidden, bias, out / len(parts)
    return Ranker(*(array.astype(np.float32) for array in arrays))


class _Questions(NamedTuple):
    """The candidates of one query after the other, with normal features and the blend's score."""

    features: torch.Tensor
    blended: torch.Tensor
    begins: NDArray[np.int64]
    lengths: NDArray[np.int64]
    labels: NDArray[np.int64]


def _fit_part(questions: _Questions, unseen: NDArray[np.bool_], seed: int) -> list[Scores] | None:
    """The hidden layer, its bias and the output of a network that learns from the queries that are
    not `unseen`; None where it does not make those likelier.
    """
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    width = questions.features.shape[1]
    hidden = torch.nn.Parameter(torch.randn(width, _UNITS) * (2 / width) ** 0.5)
    bias = torch.nn.Parameter(torch.zeros(_UNITS))
    out = torch.nn.Parameter(torch.zeros(_UNITS))
    optimiser = torch.optim.AdamW([hidden, bias, out], lr=_LEARNING_RATE, weight_decay=_DECAY)

    def loss(chosen: NDArray[np.int64]) -> torch.Tensor:
        """The mean negative log-likelihood of the labels of these queries."""
        lengths, begins = questions.lengths[chosen], questions.begins[chosen]
        places = np.arange(int(lengths.max()))
        real = places < lengths[:, None]
        rows = torch.from_numpy(np.where(real, begins[:, None] + places, 0))
        flat = rows.flatten()
        score = questions.blended[flat] + torch.relu(questions.features[flat] @ hidden + bias) @ out
        score = score.view(rows.shape).masked_fill(torch.from_numpy(~real), -1e9)
        return torch.nn.functional.cross_entropy(
            score, torch.from_numpy(questions.labels[chosen] - begins)
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
    return kept
