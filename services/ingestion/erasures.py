"""Erasures: their place in the order of events, asked of the broker, and receipts from monitoring.

So a caller who erases a user needs no other address.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Final

from pydantic import ValidationError

from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.chassis.client import Peer, PeerError
from slipstream.chassis.errors import NotFoundError, UnavailableError
from slipstream.contracts.positions import Cut
from slipstream.contracts.rest import ErasureReceipt

_CUT_RETRY_AFTER_S = 2


class ErasureCuts:
    """Asks the broker where its topics end. Requests that wait at the same time share an answer.

    For use in one event loop.
    """

    def __init__(self, ends: Callable[[], Cut]) -> None:
        """`ends`: the next offset of every source, by topic; raises `BrokerUnavailableError`."""
        self._ends = ends
        self._asking = asyncio.Lock()
        self._next: asyncio.Task[Cut] | None = None

    async def cut(self) -> Cut:
        """The ends at a moment after this call: what was accepted before stands before them.

        Raises `UnavailableError` while the broker does not tell them.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._ask())
        try:
            return await asyncio.shield(self._next)
        except BrokerUnavailableError as error:
            raise UnavailableError(
                "The broker does not tell where its topics end; nothing is erased. Send it again",
                code="broker_unavailable",
                retry_after_s=_CUT_RETRY_AFTER_S,
            ) from error

    async def _ask(self) -> Cut:
        async with self._asking:
            self._next = None  # Who comes now may have had an event accepted meanwhile.
            return await asyncio.to_thread(self._ends)


_RETRY_AFTER_S: Final = 5
_ID: Final = re.compile(r"[0-9A-Za-z_.-]{1,64}")


class ErasureReceipts:
    """The receipts, which monitoring makes. For several threads."""

    def __init__(self, monitoring: Peer) -> None:
        self._monitoring = monitoring

    def find(self, erasure_id: str) -> ErasureReceipt:
        """The receipt of an erasure.

        Raises:
            NotFoundError: The erasure does not exist.
            UnavailableError: Monitoring, or features behind it, does not answer.
        """
        unknown = NotFoundError(f"no erasure {erasure_id!r} is known", code="no_erasure")
        if not _ID.fullmatch(erasure_id):
            raise unknown
        try:
            answer = self._monitoring.get(f"/v1/erasures/{erasure_id}")
            return ErasureReceipt.model_validate(answer)
        except PeerError as error:
            if error.status == 404:
                raise unknown from error
            raise _unavailable(str(error)) from error
        except (ValidationError, ValueError) as error:
            raise _unavailable(f"monitoring's receipt can't be read: {error}") from error


def _unavailable(reason: str) -> UnavailableError:
    return UnavailableError(
        f"The erasure goes on; its receipt can't be made now: {reason}",
        code="receipt_unavailable",
        retry_after_s=_RETRY_AFTER_S,
    )
