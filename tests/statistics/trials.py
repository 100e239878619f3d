"""Trials of confidence sequences on simulated visitors, looked at after each of them."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slipstream.evaluation.experiments.moments import Moments, difference
from slipstream.evaluation.experiments.sequences import share_p_value
from tests.statistics.shoppers import TASTES, base_rate, moments, visitors

ALPHA: Final = 0.05
LIFTS: Final = (-0.3, -0.1, 0.05, 0.2, 0.5)
Z95: Final = 1.959963984540054
# Those of a fixed horizon: 5 % false alarms, and four in five effects found.
Z_FIXED: Final = Z95 + 0.8416212335729143
Flags = NDArray[np.bool_]


class Trial(NamedTuple):
    """A metric, whether it is adjusted by visitors' past, and its name in the table."""

    metric: str
    with_past: bool
    name: str


TRIALS: Final = (
    Trial("click_through", False, "click-through"),
    Trial("click_through", True, "click-through, with visitors' past"),
    Trial("purchases", False, "purchases by visitor"),
    Trial("revenue", False, "revenue by visitor"),
)


class Looks(NamedTuple):
    """The outcome of one experiment: by trial, what happened at any of its looks."""

    missed: dict[str, bool]
    missed_by_fixed: dict[str, bool]
    explained: float


def looks(seed: int, n: int, lift: float) -> Looks:
    """An experiment of `n` visitors in which every look must contain the true lift."""
    drawn = visitors(np.random.default_rng(seed), n, lift)
    missed, by_fixed, explained = {}, {}, 0.0
    for metric, with_past, name in TRIALS:
        own, control = (moments(drawn, metric, arm, with_past=with_past) for arm in (1, 0))
        gap = difference(own, control, ALPHA)
        true = lift * base_rate(metric)
        outside = _outside(gap.absolute, true) | _outside(gap.relative, lift)
        missed[name] = bool(outside.any())
        # The interval of a fixed horizon, looked at as often from the same hits on.
        seen = np.isfinite(gap.absolute.low)
        off = np.abs(gap.relative.value - lift) > Z95 * gap.error
        by_fixed[name] = bool((off & seen).any())
        explained = max(explained, float(gap.explained[-1]))
    return Looks(missed, by_fixed, explained)


def _outside(found: Any, true: float) -> Flags:
    # NaN is no end, so it leaves nothing out.
    outside: Flags = (found.low > true) | (found.high < true)
    return outside


def returning(seed: int, n: int) -> bool:
    """Whether an A/A test of visitors who come back is ever a false alarm.

    All slates of all visitors are in random order, and every slate is a look. A visitor's sum
    changes with each of the visitor's slates.
    """
    random = np.random.default_rng(seed)
    taste, arm = random.choice(TASTES, n), (random.random(n) < 0.5).astype(int)
    slates = np.ceil(random.lognormal(0.5, 0.9, n)).astype(int)
    visitor = random.permutation(np.repeat(np.arange(n), slates))
    clicked = (random.random(len(visitor)) < taste[visitor]).astype(float)
    order = np.argsort(visitor, kind="stable")
    ends = np.concatenate([[0], np.cumsum(slates)])[:-1]
    place, so_far = np.empty(len(visitor)), np.empty(len(visitor))
    place[order] = np.arange(len(visitor)) - np.repeat(ends, slates) + 1.0
    running = np.cumsum(clicked[order])
    start = np.repeat(running[ends] - clicked[order][ends], slates)
    so_far[order] = running - start

    def sums(which: int) -> Moments:
        own = (arm[visitor] == which).astype(float)
        a, b = so_far, place
        steps = (
            place == 1,
            (so_far == 1) & (clicked == 1),
            clicked,
            np.ones(len(a)),
            clicked * (2 * a - 1),
            a * b - (a - clicked) * (b - 1),
            2 * b - 1,
        )
        return Moments(*(np.cumsum(own * step) for step in steps))

    return bool(_outside(difference(sums(1), sums(0), ALPHA).absolute, 0.0).any())


@lru_cache(4)
def _uneven(most: int) -> NDArray[np.int64]:
    """By number of visitors, the least of the larger half at which the division is off."""
    least, larger = np.zeros(most + 1, np.int64), 1
    for n in range(most + 1):
        larger = max(larger, (n + 1) // 2)
        while larger <= n and share_p_value([larger, n - larger], [0.5, 0.5]) >= 0.001:
            larger += 1
        least[n] = larger
    return least


def uneven_at(seed: int, n: int, share: float) -> int | None:
    """Number of visitors until the check of shares fails; None where it does not within `n`."""
    one = np.cumsum(np.random.default_rng(seed).random(n) < share)
    total = np.arange(1, n + 1)
    failed = np.maximum(one, total - one) >= _uneven(n)[total]
    return int(np.argmax(failed)) + 1 if failed.any() else None


class Shelf(NamedTuple):
    """A list of ten items, of which a visitor with an intent clicks the first that attracts.

    Attributes:
        attracts: Probability that an item of the control's attracts, and of the variant's.
    """

    attracts: tuple[float, float]

    def clicked(self) -> tuple[float, float]:
        """The probability that somebody with an intent clicks, on either list."""
        one, other = (1 - (1 - each) ** 10 for each in self.attracts)
        return one, other


def needed_by_split(shelf: Shelf, seed: int, most: int) -> int | None:
    """Visitors of an A/B test until it is sure that the lists differ; None beyond `most`."""
    random = np.random.default_rng(seed)
    arm, taste = (random.random(most) < 0.5).astype(int), random.choice(TASTES, most)
    slates = np.ceil(random.lognormal(0.5, 0.9, most))
    chance = taste * np.array(shelf.clicked())[arm]
    clicks = random.binomial(slates.astype(int), chance).astype(float)

    def sums(which: int) -> Moments:
        own = (arm == which).astype(float)
        a, b = clicks * own, slates * own
        steps = (own, (a > 0).astype(float), a, b, a * a, a * b, b * b)
        return Moments(*map(np.cumsum, steps))

    sure = _outside(difference(sums(1), sums(0), ALPHA).absolute, 0.0)
    return int(np.argmax(sure)) + 1 if sure.any() else None


def needed_by_fixed_horizon(shelf: Shelf) -> int:
    """Visitors of an A/B test with a fixed horizon, which finds four in five such differences."""
    random = np.random.default_rng(1)
    one, other = shelf.clicked()
    n = 1_000_000
    slates = np.ceil(random.lognormal(0.5, 0.9, n))
    clicks = random.binomial(slates.astype(int), random.choice(TASTES, n) * one)
    rate = clicks.sum() / slates.sum()
    variance = np.var(clicks - rate * slates) / slates.mean() ** 2
    gap = TASTES.mean() * (other - one)
    return int(4 * variance * (Z_FIXED / gap) ** 2)


def repeated(count: int, trial: Callable[[int], Any], told: Callable[[], None]) -> Iterator[Any]:
    """The outcomes of trials with seeds of their own; `told` is called after each."""
    for seed in range(count):
        yield trial(seed)
        told()
