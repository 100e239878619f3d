"""The feed of placements, from `placements.v1`, or from this disk where the broker is away."""

from collections.abc import Callable
from pathlib import Path

from services.serving.placements.book import PlacementBook
from slipstream.broker.consumer import Consumer
from slipstream.broker.follower import Follower
from slipstream.chassis.metrics import Metrics
from slipstream.contracts.topics import PLACEMENTS


class PlacementFeed:
    """Keeps the book of placements up to date; `run` is a worker's target."""

    def __init__(
        self, book: PlacementBook, consumer: Callable[[], Consumer], chassis: Metrics, kept_in: Path
    ) -> None:
        """A feed that has read nothing yet.

        Args:
            book: The book to fill.
            consumer: Makes a consumer of `placements.v1` that begins at its beginning.
            chassis: Metrics of the consumer.
            kept_in: File of the last known placements.
        """
        self._follower = Follower(PLACEMENTS, consumer, book.take, chassis, kept_in=kept_in)
        self.watch, self.run = self._follower.watch, self._follower.run

    async def check(self) -> None:
        """Readiness: raises until the placements are known as they are, or were last.

        That is: the topic up to its end at start, or where the broker is away, the file. Before
        that, an item that a rule excludes could be shown.
        """
        follower = self._follower
        if follower.caught_up or (follower.broker_was_away and follower.restored):
            return
        if follower.broker_was_away:
            raise RuntimeError("the broker is away, and this disk has no placements")
        raise RuntimeError("the placements are still being read")
