"""The newest states of compacted topics, in memory.

A feed keeps a book of them, from its topic, or from this disk where the broker is away.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

from slipstream.broker.consumer import Consumer
from slipstream.broker.follower import Follower
from slipstream.chassis.metrics import Metrics
from slipstream.contracts.experiments import Experiment
from slipstream.contracts.topics import Topic


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
            again when this number has grown.
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


class StateFeed:
    """Keeps a book of states up to date; `run` is a worker's target."""

    def __init__(
        self,
        topic: Topic,
        book: StateBook[Any],
        consumer: Callable[[], Consumer],
        chassis: Metrics,
        kept_in: Path,
    ) -> None:
        """A feed that has read nothing yet.

        Args:
            topic: The topic, such as `placements.v1`.
            consumer: Makes a consumer of the topic that begins at its beginning.
            kept_in: File of the last known states.
        """
        self._states = topic.name.partition(".")[0]
        self._follower = Follower(topic, consumer, book.take, chassis, kept_in=kept_in)
        self.watch, self.run = self._follower.watch, self._follower.run

    @property
    def is_known(self) -> bool:
        """Whether the states are known as they are, or were last.

        That is: the topic up to its end at start, or where the broker is away, the file.
        """
        follower = self._follower
        return follower.caught_up or (follower.broker_was_away and follower.restored)

    async def check(self) -> None:
        """Readiness: raises until the states are known.

        Before that, an item that a rule excludes could be shown.
        """
        follower = self._follower
        if self.is_known:
            return
        if follower.broker_was_away:
            raise RuntimeError(f"the broker is away, and this disk has no {self._states}")
        raise RuntimeError(f"the {self._states} are still being read")


# Time before an experiment's start at which its models are wanted (ms).
AHEAD_MS: Final = 60_000


class ExperimentBook(StateBook[Experiment]):
    """The newest state of each experiment, and which are about a placement.

    Used as `StateBook`; `of` and `by_placement` in the event loop alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self._indexed = 0
        self._by_placement: dict[str, list[Experiment]] = {}

    def by_placement(self) -> Mapping[str, list[Experiment]]:
        """The experiments of each placement that one covers, by name."""
        if self._indexed != self.revision:
            self._indexed = self.revision
            self._by_placement = _by_placement(self.states)
        return self._by_placement

    def of(self, placement: str, now_ms: int) -> Experiment | None:
        """The experiment that counts for a placement at this time; None where none does.

        Monitoring lets at most one count. While its records arrive there may be two for a moment:
        the first by name is taken then.
        """
        for experiment in self.by_placement().get(placement, ()):
            if experiment.design.counts(now_ms):
                return experiment
        return None

    def models(self, now_ms: int) -> list[str]:
        """The models that variants name, of experiments that count now or soon, each once.

        Safe from any thread.
        """
        return list(
            dict.fromkeys(
                variant.model
                for _, experiment in sorted(self.states.items())
                if experiment.design.counts(now_ms) or experiment.design.counts(now_ms + AHEAD_MS)
                for variant in experiment.design.variants
                if variant.model
            )
        )


def _by_placement(experiments: Mapping[str, Experiment]) -> dict[str, list[Experiment]]:
    found: dict[str, list[Experiment]] = {}
    for name in sorted(experiments):
        for placement in experiments[name].design.placements:
            found.setdefault(placement, []).append(experiments[name])
    return found
