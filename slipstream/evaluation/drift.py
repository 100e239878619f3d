"""Drift of a distribution from one window of time to another: sketches, distances, significance.

A sketch is a histogram to which each visitor adds the same weight, so the number of trials is that
of visitors, however many slates one of them had. Sketches of the same measure add up. Numbers are
counted in buckets of equal relative width (C. Masson, J. Rim, H. Lee, "DDSketch", VLDB 2019), which
need no range in advance and lose at most 5 % of a value.

The population stability index is the symmetrised Kullback-Leibler divergence of two histograms (S.
Kullback, R. Leibler, 1951). It grows with the number of bins and falls with that of visitors even
where nothing has changed, so it is the size of a difference, and never its proof. The proof is
Pearson's chi-square test of two samples over the same bins.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import exp, log
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

Values = NDArray[np.float64]

# Each bucket ends 10 % above its beginning; numbers below the least one count as 0.
_GROWTH: Final = log(1.1)
_LEAST: Final = 1e-9
# The name that stands for all names that a sketch keeps no count of.
OTHER: Final = "…"
# Bins of numbers: tenths of the reference.
_TENTHS: Final = 10
# Names that are compared; the rest is one bin. Names of fewer visitors in both windows together are
# in the rest, too: the test needs some in every bin.
_MOST_NAMES: Final = 20
_FEWEST: Final = 10.0


@dataclass(frozen=True)
class Sketch:
    """The distribution of a measure over visitors.

    Attributes:
        counts: Visitors by bucket (a number as text, see `buckets`) or by name.
        missing: Visitors without a value where there should be one.
    """

    counts: Mapping[str, float]
    missing: float = 0.0

    @property
    def present(self) -> float:
        """The number of visitors with a value."""
        return sum(self.counts.values())

    @property
    def visitors(self) -> float:
        """The number of visitors, with and without a value."""
        return self.present + self.missing


def buckets(values: Values) -> NDArray[np.int64]:
    """The buckets of numbers; greater numbers have the same or a greater one, and 0 has 0."""
    sizes = np.abs(values)
    places = 1 + np.ceil(np.log(np.maximum(sizes, _LEAST) / _LEAST) / _GROWTH)
    return np.where(sizes < _LEAST, 0, np.copysign(places, values)).astype(np.int64)


def bucket_value(place: int) -> float:
    """A number within 5 % of all those of a bucket."""
    if not place:
        return 0.0
    size = _LEAST * exp((abs(place) - 1.5) * _GROWTH)
    return size if place > 0 else -size


def sketch_numbers(values: Iterable[float | None]) -> Sketch:
    """The sketch of one number per visitor; None is a missing one."""
    every = list(values)
    present = np.array([value for value in every if value is not None], np.float64)
    places, counts = np.unique(buckets(present), return_counts=True)
    return Sketch(
        {str(place): float(count) for place, count in zip(places, counts, strict=True)},
        float(len(every) - len(present)),
    )


def sketch_names(shares: Iterable[Mapping[str, float]], most: int) -> Sketch:
    """The sketch of the shares of names per visitor, which are scaled to add up to 1.

    A visitor without any share is missing. Of the names, the `most` frequent ones are kept.
    """
    counts: dict[str, float] = {}
    missing = 0.0
    for of_visitor in shares:
        total = sum(of_visitor.values())
        if total <= 0:
            missing += 1
        for name, share in of_visitor.items() if total > 0 else ():
            counts[name] = counts.get(name, 0.0) + share / total
    if len(counts) > most:
        kept = sorted(counts, key=lambda name: (-counts[name], name))[: most - 1]
        rest = sum(counts.values()) - sum(counts[name] for name in kept)
        counts = {name: counts[name] for name in kept} | {OTHER: max(0.0, rest)}
    return Sketch(counts, missing)


class Bins(NamedTuple):
    """Two sketches over the same bins: a label of each bin, and the visitors in it."""

    labels: list[str]
    reference: Values
    current: Values


def number_bins(reference: Sketch, current: Sketch) -> Bins:
    """Bins with a tenth of the reference's visitors each, or with one bucket that has more."""
    places = sorted({int(key) for key in (*reference.counts, *current.counts)})
    of_reference, of_current = (
        np.array([sketch.counts.get(str(place), 0.0) for place in places])
        for sketch in (reference, current)
    )
    before = np.cumsum(of_reference) - of_reference / 2
    tenths = np.floor(before * _TENTHS / max(reference.present, 1.0)).clip(0, _TENTHS - 1)
    groups = np.unique(tenths, return_inverse=True)[1] if len(places) else np.empty(0, int)
    first = [places[int(np.flatnonzero(groups == group)[0])] for group in np.unique(groups)]
    return Bins(
        [f"{bucket_value(place):.3g}" for place in first],
        np.bincount(groups, weights=of_reference).astype(np.float64),
        np.bincount(groups, weights=of_current).astype(np.float64),
    )


def name_bins(reference: Sketch, current: Sketch) -> Bins:
    """Bins of the most frequent names, and one of all others."""
    together = {
        name: reference.counts.get(name, 0.0) + current.counts.get(name, 0.0)
        for name in {*reference.counts, *current.counts} - {OTHER}
    }
    kept = sorted(
        (name for name, count in together.items() if count >= _FEWEST),
        key=lambda name: (-together[name], name),
    )[:_MOST_NAMES]
    of_reference, of_current = (
        np.array(
            [
                *(sketch.counts.get(name, 0.0) for name in kept),
                sketch.present - sum(sketch.counts.get(name, 0.0) for name in kept),
            ]
        ).clip(0)
        for sketch in (reference, current)
    )
    rest = 0 if of_reference[-1] + of_current[-1] >= _FEWEST else 1
    end = len(kept) + 1 - rest
    return Bins([*kept, OTHER][:end], of_reference[:end], of_current[:end])


@dataclass(frozen=True)
class Distances:
    """Distances of two distributions.

    Attributes:
        bins: Bins of the first three distances.
        psi: Population stability index: 0 for equal shares.
        jensen_shannon: Jensen-Shannon distance (J. Lin, 1991), base 2: from 0 to 1.
        p: Chance of a difference like this between two samples of the same visitors.
        kolmogorov_smirnov: Greatest difference of the shares below a number; None for names.
        wasserstein: Mean way from one distribution to the other (L. Vaserstein, 1969), in standard
            deviations of the reference; None for names, and from a constant.
    """

    bins: Bins
    psi: float
    jensen_shannon: float
    p: float
    kolmogorov_smirnov: float | None = None
    wasserstein: float | None = None


def distances(reference: Sketch, current: Sketch, *, numbers: bool) -> Distances | None:
    """The distances of two sketches of numbers or of names; None where one has no visitor."""
    if reference.present <= 0 or current.present <= 0:
        return None
    bins = (number_bins if numbers else name_bins)(reference, current)
    if not bins.labels:
        return None
    counts = bins.reference, bins.current
    return Distances(
        bins,
        population_stability_index(*counts),
        jensen_shannon(*counts),
        chi_square(*counts),
        *(_of_numbers(reference, current) if numbers else ()),
    )


def population_stability_index(reference: Values, current: Values) -> float:
    """The PSI of two histograms over the same bins: at least 0, and 0 for equal shares.

    Half a visitor is added to every bin, so that an empty one gives a large figure and not
    infinity. Raises ValueError for histograms of different length.
    """
    if len(reference) != len(current):
        raise ValueError(f"{len(reference)} and {len(current)} bins cannot be compared")
    expected = (reference + 0.5) / (reference.sum() + 0.5 * len(reference))
    actual = (current + 0.5) / (current.sum() + 0.5 * len(current))
    return float(((actual - expected) * np.log(actual / expected)).sum())


def jensen_shannon(reference: Values, current: Values) -> float:
    """The Jensen-Shannon distance, base 2, of two histograms that are not empty."""
    one, other = reference / reference.sum(), current / current.sum()
    middle = (one + other) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = [np.where(p > 0, p * np.log2(p / middle), 0.0).sum() for p in (one, other)]
    return float(np.sqrt(max(0.0, sum(terms) / 2)))


def chi_square(reference: Values, current: Values) -> float:
    """The p-value of Pearson's test that both histograms are of the same distribution.

    A visitor counts in one bin, or with shares in several, which makes the test the more careful.
    1 where only one bin has visitors.
    """
    totals = reference + current
    seen = totals > 0
    freedom = int(seen.sum()) - 1
    if freedom < 1 or not reference.sum() or not current.sum():
        return 1.0
    statistic = 0.0
    for observed in (reference[seen], current[seen]):
        expected = totals[seen] * observed.sum() / totals.sum()
        statistic += float(((observed - expected) ** 2 / expected).sum())
    return float(chdtrc(freedom, statistic))


def share_moved(
    reference: tuple[float, float], current: tuple[float, float]
) -> tuple[float, float]:
    """The PSI and the p-value of a share: (visitors with it, visitors) in each window."""
    of_reference, of_current = (
        np.array([count, of - count], np.float64).clip(0) for count, of in (reference, current)
    )
    return (
        population_stability_index(of_reference, of_current),
        chi_square(of_reference, of_current),
    )


def _of_numbers(reference: Sketch, current: Sketch) -> tuple[float, float | None]:
    """The Kolmogorov-Smirnov statistic, and the Wasserstein distance in standard deviations."""
    places = sorted({int(key) for key in (*reference.counts, *current.counts)})
    at = np.array([bucket_value(place) for place in places])
    one, other = (
        np.array([sketch.counts.get(str(place), 0.0) for place in places]) / sketch.present
        for sketch in (reference, current)
    )
    apart = np.abs(np.cumsum(one) - np.cumsum(other))
    mean = float((one * at).sum())
    spread = float(np.sqrt((one * (at - mean) ** 2).sum()))
    way = float((apart[:-1] * np.diff(at)).sum())
    return float(apart.max()), way / spread if spread else None


def shares(counts: Values) -> list[float]:
    """The shares of counts, which add up to 1, or to 0 without any."""
    found: list[float] = (counts / (counts.sum() or 1.0)).tolist()
    return found
