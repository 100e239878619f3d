"""Drift of a distribution since training. Pure functions on histograms.

The population stability index is the symmetrised Kullback-Leibler divergence of two histograms (S.
Kullback, R. Leibler, 1951). Credit scoring's rule of thumb: below 0.1 stable, above 0.25 changed
(N. Siddiqi, "Credit Risk Scorecards", 2006).
"""

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def reference_bins(values: Values, bins: int = 10) -> Values:
    """Edges at the quantiles of a reference sample, ascending and distinct, at most `bins` + 1.

    A constant gives one bin around it. Raises ValueError for an empty sample.
    """
    if not len(values):
        raise ValueError("no values to take quantiles of")
    edges = np.unique(np.quantile(np.asarray(values, np.float64), np.linspace(0, 1, bins + 1)))
    if len(edges) == 1:
        return np.array([edges[0] - 0.5, edges[0] + 0.5])
    return edges


def histogram(values: Values, bins: Values) -> NDArray[np.int64]:
    """Counts between ascending edges, lower edge included.

    Values beyond the edges count in the outermost bins, so the counts add up to the number of
    values. Raises ValueError for NaN: count missing values apart.
    """
    values = np.asarray(values, np.float64)
    if np.isnan(values).any():
        raise ValueError("NaN has no bin")
    place = np.searchsorted(bins, values, side="right") - 1
    return np.bincount(np.clip(place, 0, len(bins) - 2), minlength=len(bins) - 1).astype(np.int64)


def population_stability_index(reference: NDArray[np.int64], current: NDArray[np.int64]) -> float:
    """The PSI of two histograms over the same bins: at least 0, and 0 for equal shares.

    Half a count is added to every bin, so that an empty one gives a large figure and not infinity.
    Raises ValueError for histograms of different length.
    """
    if len(reference) != len(current):
        raise ValueError(f"{len(reference)} and {len(current)} bins cannot be compared")
    expected = (reference + 0.5) / (reference.sum() + 0.5 * len(reference))
    actual = (current + 0.5) / (current.sum() + 0.5 * len(current))
    return float(((actual - expected) * np.log(actual / expected)).sum())
