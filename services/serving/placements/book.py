"""The placements that slates are made for, in memory."""

from collections.abc import Collection

from slipstream.contracts.placements import Placement


class PlacementBook:
    """The newest state of each placement.

    Read by the event loop, and changed by the thread that follows the topic.

    Attributes:
        revision: Number of changes until now. A reader that keeps what it made of placements makes
            it anew when this number has grown.
    """

    def __init__(self) -> None:
        self._placements: dict[str, Placement] = {}
        self.revision = 0

    def get(self, name: str) -> Placement | None:
        """The placement of this name; None where there is none, or no longer."""
        return self._placements.get(name)

    def take(self, placements: Collection[Placement]) -> None:
        """Take the newest states of placements, all at once."""
        after = dict(self._placements)
        for placement in placements:
            if placement.deleted:
                after.pop(placement.name, None)
            else:
                after[placement.name] = placement
        if after != self._placements:
            # In this order: whoever sees the new number sees the new placements, too.
            self._placements = after
            self.revision += 1
