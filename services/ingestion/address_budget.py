"""Budget of an address: the bytes that come from it without a server's key.

Parsing costs time before a key's own rates can be asked: they count records, and Redis has them.
So each replica keeps a debt by address, in memory, which time pays off.
"""

import math
import time
from collections.abc import Callable
from typing import Final

from slipstream.chassis.addresses import network_of
from slipstream.chassis.errors import TooManyRequestsError

KIB: Final = 1024
# Addresses with debts that a replica remembers; the eldest debt is forgotten first.
MOST_ADDRESSES: Final = 50_000


class AddressBudget:
    """Debts of addresses, in bytes. An address in debt beyond the burst is refused.

    A request is let in by the debt before it, and charged when its size is known. So a large batch
    is taken, and the next one waits.

    Args:
        kib_per_s: KiB of debt that a second pays off; 0: nothing is refused.
        burst_kib: KiB of debt from which requests are refused.
        clock: Tells the time in seconds.
    """

    def __init__(
        self, kib_per_s: float, burst_kib: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kib_per_s, self._burst_kib = kib_per_s, burst_kib
        self._clock = clock
        # By address: the moment at which all is paid off.
        self._paid_at: dict[str, float] = {}

    def exhausted(self, address: str) -> bool:
        """Whether the address has no credit left."""
        return bool(self._paid_at) and self._wait_s(address) > 0

    def refusal(self, address: str) -> TooManyRequestsError:
        """The error for a request of an address without credit."""
        return TooManyRequestsError(
            f"Without a server's key in the header, an address may send {self._kib_per_s:g} KiB a "
            f"second, and {self._burst_kib} KiB at once",
            retry_after_s=max(1, math.ceil(self._wait_s(address))),
            limit=self._burst_kib,
        )

    def charge(self, address: str, size: int) -> None:
        """Add a request of `size` bytes to the address's debt, as whole KiB."""
        if not self._kib_per_s:
            return
        network, now = network_of(address), self._clock()
        paid_at = max(self._paid_at.pop(network, now), now)
        # Put last: those before it were charged earlier.
        self._paid_at[network] = paid_at + (1 + size // KIB) / self._kib_per_s
        if len(self._paid_at) > MOST_ADDRESSES:
            self._forget(now)

    def _wait_s(self, address: str) -> float:
        """Seconds until the address has credit again; 0 or less when it has."""
        paid_at = self._paid_at.get(network_of(address))
        if paid_at is None:
            return 0.0
        return paid_at - self._clock() - self._burst_kib / self._kib_per_s

    def _forget(self, now: float) -> None:
        """Drop what is paid off; where nothing is, the half that was charged longest ago."""
        kept = {name: paid_at for name, paid_at in self._paid_at.items() if paid_at > now}
        eldest = len(kept) - MOST_ADDRESSES // 2
        self._paid_at = dict(list(kept.items())[max(0, eldest) :])
