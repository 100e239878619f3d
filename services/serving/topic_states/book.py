"""The newest states of a compacted topic, in memory."""

from collections.abc import Collection, Mapping
from typing import Generic, Protocol, TypeVar


class State(Protocol):
    """The fields of a state that a book needs."""

    @property
    def name(self) -> str:
        """The key."""

    @property
    def deleted(self) -> bool:
        """Whether it is gone."""


StateT = TypeVar("StateT", bound=State)


class StateBook(Generic[StateT]):
    """The newest state under each name.

    Read by the event loop, and changed by the thread that follows the topic.

    Attributes:
        states: The states by name; a change puts another mapping here.
        revision: Number of changes until now. A reader that keeps what it made of states makes it
            anew when this number has grown.
    """

    def __init__(self) -> None:
        self.states: Mapping[str, StateT] = {}
        self.revision = 0

    def get(self, name: str) -> StateT | None:
        """The state of this name; None where there is none, or no longer."""
        return self.states.get(name)

    def take(self, states: Collection[StateT]) -> None:
        """Take the newest states, all at once."""
        after = dict(self.states)
        for state in states:
            if state.deleted:
                after.pop(state.name, None)
            else:
                after[state.name] = state
        if after != self.states:
            # In this order: whoever sees the new number sees the new states, too.
            self.states = after
            self.revision += 1
