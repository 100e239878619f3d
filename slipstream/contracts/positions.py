"""Positions: where a record stands in the stream."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Source:
    """Where a record stands: offsets count within one partition of one incarnation (`topic_id`) of
    a topic.
    """

    topic: str
    topic_id: str
    partition: int

    @property
    def name(self) -> str:
        """How states and the lake call it: "<topic id>:<partition>"."""
        return f"{self.topic_id}:{self.partition}"
