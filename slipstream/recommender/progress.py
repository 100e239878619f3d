"""How far a fit is."""

from collections.abc import Callable
from typing import NamedTuple


class FitStep(NamedTuple):
    """What is being done, which share of the whole is done, and while a network is trained, how far
    that is.
    """

    what: str
    done: float
    epoch: int | None = None
    epochs: int | None = None
    loss: float | None = None


Progress = Callable[[FitStep], None]
