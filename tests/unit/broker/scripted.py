"""A consumer with scripted batches, standing and membership."""

import threading
from collections.abc import Mapping
from typing import Any

from slipstream.broker.consumer_client import Membership
from slipstream.broker.log_changes import LogFault
from slipstream.broker.records import Batch
from slipstream.broker.standing import Standing
from slipstream.contracts.positions import Source

SOURCE = Source("interactions.v1", "t", 0)


class ScriptedConsumer:
    """Returns `batches`, then sets `stop`. It stands at `position` in a partition that ends at
    `end`; without `answers` the broker says nothing.
    """

    group = "shop.features"

    def __init__(self, *batches: Batch) -> None:
        self.batches, self.stop = list(batches), threading.Event()
        self.position, self.end = 0, 0
        self.membership: Membership | None = Membership(joined=True, silent_s=0.0)
        self.answers = self.assigned = self.taken = True
        self.polls = self.questions = 0
        self.committed: list[Any] = []
        self.found: list[LogFault] = []
        self.closed = False

    def faults(self) -> list[LogFault]:
        found, self.found = self.found, []
        return found

    def poll(self, timeout_s: float) -> Batch:
        self.polls += 1
        if len(self.batches) <= 1:
            self.stop.set()
        return self.batches.pop(0) if self.batches else Batch()

    def commit(self, next_offsets: Any) -> bool:
        self.committed.append(next_offsets)
        return True

    def standing(self) -> Standing | None:
        if not self.answers:
            return None
        if not self.assigned:
            return Standing({}, {SOURCE.topic: 0})
        return Standing({0: (self.position, self.end)}, {SOURCE.topic: self.end - self.position})

    def ends(self) -> dict[Source, int]:
        return {SOURCE: self.end}

    def has_reached(self, ends: Mapping[Source, int]) -> bool:
        return self.position >= ends[SOURCE]

    def remaining(self) -> int | None:
        return self.end - self.position if self.answers else None

    def may_be_spare(self) -> bool:
        self.questions += 1
        return self.taken

    def close(self) -> None:
        self.closed = True
