"""Cuts: the place of an erasure in the order of events, asked of the broker."""

import asyncio
from collections.abc import Callable

from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.chassis.errors import UnavailableError
from slipstream.contracts.positions import Cut

_RETRY_AFTER_S = 2


class ErasureCuts:
    """Asks the broker where its topics end. Requests that wait at the same time share an answer.

    For use in one event loop.
    """

    def __init__(
        self, ends: Callable[[], Cut], spooling: Callable[[], bool] = lambda: False
    ) -> None:
        """
        Args:
            ends: The next offset of every source, by topic; raises `BrokerUnavailableError`.
            spooling: Whether accepted events are on this disk, and not on their topics yet.
        """
        self._ends, self._spooling = ends, spooling
        self._asking = asyncio.Lock()
        self._next: asyncio.Task[Cut] | None = None

    async def cut(self) -> Cut:
        """The ends at a moment after this call: what was accepted before stands before them.

        Raises `UnavailableError` while the broker does not tell them, or the spool holds events.
        """
        if self._spooling():
            raise UnavailableError(
                "Accepted events wait on disk for the broker, and would come after the erasure. "
                "Send it again",
                code="broker_unavailable",
                retry_after_s=_RETRY_AFTER_S,
            )
        if self._next is None:
            self._next = asyncio.create_task(self._ask())
        try:
            return await asyncio.shield(self._next)
        except BrokerUnavailableError as error:
            raise UnavailableError(
                "The broker does not tell where its topics end; nothing is erased. Send it again",
                code="broker_unavailable",
                retry_after_s=_RETRY_AFTER_S,
            ) from error

    async def _ask(self) -> Cut:
        async with self._asking:
            self._next = None  # Who comes now may have had an event accepted meanwhile.
            return await asyncio.to_thread(self._ends)
