"""Drift of a distribution since training. Pure functions on histograms.

The population stability index is the symmetrised Kullback-Leibler divergence of two histograms (S.
Kullback, R. Leibler, 1951). Credit scoring's rule of thumb: below 0.1 stable, above 0.25 changed
(N. Siddiqi, "Credit Risk Scorecards", 2006).
"""

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def reference_bins(values: Values, bins: int = 10) -> Values:
    """Edges of bins at the quantiles of a reference sample, ascending and distinct.

    Equal quantiles give one edge. A value that more than half of the sample has gets a bin of its
    own, so that a constant has three: below, at and above it. There are at most `bins` bins, or 4.
    Raises ValueError for an empty sample.
    """
    if not len(values):
        raise ValueError("no values to take quantiles of")
    values = np.asarray(values, np.float64)
    distinct, counts = np.unique(values, return_counts=True)
    quantiles = np.quantile(values, np.linspace(0, 1, bins + 1))
    cuts = {float(cut) for cut in quantiles[1:-1] if cut > distinct[0]}
    most = int(counts.argmax())
    if 2 * counts[most] > len(values):
        own = float(distinct[most])
        following = distinct[most + 1] if most + 1 < len(distinct) else np.inf
        if not any(own < cut <= following for cut in cuts):
            cuts.add(float(np.nextafter(own, np.inf)))
        cuts.add(own)
    inner = sorted(cuts)
    # The outermost bins are open: these two edges only show where the sample lies.
    low, high = float(distinct[0]), float(distinct[-1])
    if inner:
        low = low if low < inner[0] else inner[0] - 0.5
        high = high if high > inner[-1] else inner[-1] + 0.5
    return np.array([low, *inner, high])


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
