"""The way of answered slates to the broker, in groups: the work for one is mostly that for many."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from slipstream.broker.producer import OutgoingRecord
from slipstream.chassis.logging import request_id
from slipstream.contracts.events import Slate
from slipstream.contracts.topics import RECOMMENDATIONS

# Longest time that a slate waits for others. No request waits for it.
DELAY_S: Final = 0.05
# Slates that are handed over at once. More would hold up the requests behind them for longer.
GROUP: Final = 32


class SlateOutbox:
    """Slates that wait to be handed to the producer, at most `GROUP`. Used in one event loop.

    Args:
        send: Hands records to the broker's client without waiting; what it can't deliver is lost,
            and counted by it.
        failed: Called with the error when `send` raises.
    """

    def __init__(
        self,
        send: Callable[[Sequence[OutgoingRecord]], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._send, self._failed = send, failed
        self._waiting: list[OutgoingRecord] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, slate: Slate) -> None:
        """Take a slate, which belongs to the request that is being handled."""
        self._waiting.append(
            OutgoingRecord(RECOMMENDATIONS, slate.user_id, slate, request_id.get())
        )
        if len(self._waiting) >= GROUP:
            self.hand_over()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DELAY_S, self.hand_over)

    def hand_over(self) -> None:
        """Hand all that wait to the producer now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, []
        if waiting:
            try:
                self._send(waiting)
            except Exception as error:
                self._failed(error)
