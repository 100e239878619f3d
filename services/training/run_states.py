"""States of a run, and the moves between them."""

from collections.abc import Mapping
from typing import Final

# Where a run may go from each state. A run that has ended never moves again.
TRANSITIONS: Final[Mapping[str, frozenset[str]]] = {
    "queued": frozenset({"running", "cancelled"}),
    "running": frozenset({"succeeded", "failed", "cancelled"}),
    "succeeded": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}
ENDED: Final = frozenset(state for state, following in TRANSITIONS.items() if not following)


class TransitionError(Exception):
    """The run can't go there from the state that it is in."""


def leading_to(state: str) -> list[str]:
    """The states from which a run may go to this one."""
    return [before for before, after in TRANSITIONS.items() if state in after]
