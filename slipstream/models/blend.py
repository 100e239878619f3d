"""The blend: a weighted geometric mean of the retrievers' probabilities.

This is a log-linear opinion pool: G. E. Hinton, "Products of Experts", ICANN 1999; C. Genest, J. V.
Zidek, "Combining probability distributions", Statistical Science 1, 1986. The exponents are fitted
by the conditional log-likelihood of the next item among its candidates (a listwise softmax: Z. Cao
et al., "Learning to Rank: From Pairwise Approach to Listwise Approach", ICML 2007).

A logarithmic retriever's probability of an item is its share of the retriever's scores plus a
floor. The floor is fitted too, so that one silent retriever is no veto. A linear retriever's
probability is a softmax; its temperature is part of the exponent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slipstream.models.base import Scores

_LINEAR = -1.0
# Strength of the pull towards the starting point, in queries: matters only where validation has
# next to nothing to say.
_PRIOR = 0.3

# The least exponent: where all other retrievers are silent, as for a newcomer, even this one
# decides the order. None is negative. Otherwise likelihood, which rewards the order of the unseen
# tail, would turn popularity against the head of the list (on MovieLens-100K that costs a tenth of
# NDCG@10).
SILENT = 1e-3


@dataclass(frozen=True)
class Blend:
    """Each retriever's exponent, in the bundle's order. `floors` is negative for linear ones."""

    weights: Scores
    floors: Scores

    def features(self, scores: Scores, totals: Scores) -> Scores:
        """Log-probabilities up to a constant.

        `scores` are raw (candidates, retrievers), `totals` each retriever's sum of scores.
        """
        return log_shares(scores, totals, self.floors)

    def score(self, features: Scores) -> Scores:
        """The log of the geometric mean, up to a constant for all candidates of one history."""
        return features @ self.weights

    def only(self, kept: Sequence[int]) -> "Blend":
        """The blend of the `kept` retrievers alone, with their exponents."""
        weights = np.zeros_like(self.weights)
        weights[list(kept)] = self.weights[list(kept)]
        return Blend(weights, self.floors)


def log_shares(scores: Scores, totals: Scores, floors: Scores) -> Scores:
    """log(score / total + floor) by column, or the score itself where the floor is negative.

    A total of 0 gives log(floor).
    """
    result = np.array(scores, np.float32)
    for column in np.flatnonzero(floors >= 0):
        total = totals[..., column]
        share = result[:, column] / np.where(total > 0, total, np.float32(1))
        result[:, column] = np.log(np.maximum(share, 0) + floors[column])
    return result


def initial_blend(logarithmic: Sequence[bool]) -> Blend:
    """Equal exponents that sum to 1: the start of a fit, and the result where there is no data."""
    floors = np.array([1e-4 if flag else _LINEAR for flag in logarithmic], np.float32)
    return Blend(np.full(len(floors), 1 / max(len(floors), 1), np.float32), floors)


def fit_blend(
    scores: Scores,
    totals: Scores,
    queries: NDArray[np.int64],
    labels: NDArray[np.int64],
    start: Blend,
) -> Blend:
    """Fit the exponents and floors that make the labels likeliest. `scores` are (candidates,
    retrievers), of one query after the other. `totals` sum each retriever's (queries, retrievers).
    `queries` has their first rows, ascending from 0, and `labels` the rows of the items that came
    next.
    """
    from scipy.optimize import minimize

    n_queries, n_retrievers = totals.shape
    if not n_queries:
        return start
    query_of = np.repeat(np.arange(n_queries), np.diff(np.append(queries, len(scores))))
    logarithmic = np.flatnonzero(start.floors >= 0)
    # A retriever's scores lie in one row, as most of the time goes into their logarithms.
    features = scores.T.astype(np.float64, order="C")
    whole = np.where(totals > 0, totals, 1.0).T[logarithmic][:, query_of]
    shares = np.maximum(features[logarithmic] / whole, 0)
    origin = np.concatenate((start.weights, np.log(start.floors[logarithmic]))).astype(np.float64)

    def loss(point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights, floors = point[:n_retrievers], np.exp(point[n_retrievers:])
        above = shares + floors[:, None]
        features[logarithmic] = np.log(above)
        total = weights @ features
        total -= np.maximum.reduceat(total, queries)[query_of]
        exponential = np.exp(total)
        normaliser = np.add.reduceat(exponential, queries)
        error = exponential / normaliser[query_of]
        value = float((np.log(normaliser) - total[labels]).sum())
        error[labels] -= 1
        by_floor = (np.reciprocal(above, out=above) @ error) * weights[logarithmic] * floors
        gradient = np.concatenate((features @ error, by_floor))
        away = point - origin
        return (value + _PRIOR * float(away @ away)) / n_queries, (
            gradient + 2 * _PRIOR * away
        ) / n_queries

    bounds = [(SILENT, None)] * n_retrievers + [(np.log(1e-7), np.log(0.1))] * len(logarithmic)
    found = minimize(
        loss, origin, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 50}
    ).x
    floors = start.floors.copy()
    floors[logarithmic] = np.exp(found[n_retrievers:])
    return Blend(found[:n_retrievers].astype(np.float32), floors)
