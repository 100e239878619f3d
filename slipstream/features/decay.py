"""Forward decay in the log domain (Cormode, Shkapenyuk, Srivastava, Xu: Forward Decay, ICDE 2009).

A mass is log2 of Σ weight · 2^(t / half-life), with t in ms since the epoch. It does not change as
time passes, so items keep their order without being touched; its value at a moment is a subtraction
and a power. Sums do not depend on the order of events beyond the rounding of floats (about 1e-10 of
the value).
"""

from math import log2

# log2 of the largest value; a mass far in the future of `now_ms` would overflow a float.
_LARGEST = 1_000.0


def add(mass: float | None, weight: float, timestamp: int, half_life_ms: float) -> float | None:
    """The mass with an event added.

    Args:
        mass: the mass before; None for no events.
        weight: the event's weight, at least 0.
        timestamp: the event's time, in ms.
        half_life_ms: the half-life, in ms.
    """
    if weight <= 0.0:
        return mass
    return join(mass, log2(weight) + timestamp / half_life_ms)


def join(mass: float | None, other: float | None) -> float | None:
    """The sum of two masses, of which None is no events."""
    if mass is None or other is None:
        return other if mass is None else mass
    return both(mass, other)


def both(mass: float, other: float) -> float:
    """The sum of two masses."""
    high, low = (mass, other) if mass >= other else (other, mass)
    return high + log2(1.0 + 2.0 ** (low - high))


def value(mass: float | None, now_ms: float, half_life_ms: float) -> float:
    """The mass's value at `now_ms`: an event's weight, halved for each half-life since then."""
    return 0.0 if mass is None else float(2.0 ** min(mass - now_ms / half_life_ms, _LARGEST))
