"""The feed of a book of states, from its topic, or from this disk where the broker is away."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.serving.topic_states.book import StateBook
from slipstream.broker.consumer import Consumer
from slipstream.broker.follower import Follower
from slipstream.chassis.metrics import Metrics
from slipstream.contracts.topics import Topic


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
            book: The book to fill.
            consumer: Makes a consumer of the topic that begins at its beginning.
            chassis: Metrics of the consumer.
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
