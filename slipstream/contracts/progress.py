"""Progress of long work: one message and one callback for whatever reports how far it is."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProgressStep:
    """A message about how far a piece of work is.

    Attributes:
        done: Amount of the work that is done, in the unit of `total`.
        total: Amount of the whole work, None where it is not known. The default of 1 makes `done`
            a share.
        epoch: Epochs that have ended, while a network is trained.
    """

    stage: str
    done: float
    total: float | None = 1.0
    epoch: int | None = None
    epochs: int | None = None
    loss: float | None = None

    @property
    def share(self) -> float | None:
        """Share of the whole work that is done, 0 to 1; None where the total is not known."""
        return None if self.total is None else self.done / max(self.total, 1)


Progress = Callable[[ProgressStep], None]
