"""Wrong credentials by address: from the sixth in a minute the answer is 429, in place of 401.

Each process keeps its own count, in memory. Only wrong credentials are counted and refused so: a
right one passes, whatever else came from its address.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from slipstream.chassis.addresses import network_of
from slipstream.chassis.errors import TooManyRequestsError, UnauthorizedError

# Wrong credentials of an address within the period that are answered by 401.
MOST_WRONG: Final = 5
_PERIOD_S: Final = 60.0
# Addresses that are remembered, some 3 MB. Of more, the one that was wrong longest ago goes.
MOST_ADDRESSES: Final = 10_000


class WrongCredentialsError(TooManyRequestsError):
    code, title = "wrong_credentials", "Too many wrong credentials came from this address"


class WrongCredentials:
    """Times of the last wrong credentials, by address. `clock` tells the time in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times: OrderedDict[str, list[float]] = OrderedDict()

    def refusal(
        self, address: str, otherwise: UnauthorizedError
    ) -> UnauthorizedError | WrongCredentialsError:
        """The error for a wrong credential from this address: `otherwise`, or 429 from the sixth in
        a minute on. Those that are answered by 429 do not count.
        """
        network, now = network_of(address), self._clock()
        recent = [at for at in self._times.get(network, ()) if at > now - _PERIOD_S]
        if len(recent) == MOST_WRONG:
            return WrongCredentialsError(
                f"{otherwise.detail}. After {MOST_WRONG} wrong ones within a minute, only a right "
                "one is answered otherwise",
                retry_after_s=max(1, math.ceil(recent[0] + _PERIOD_S - now)),
                limit=MOST_WRONG,
            )
        self._times[network] = [*recent, now]
        self._times.move_to_end(network)
        if len(self._times) > MOST_ADDRESSES:
            self._times.popitem(last=False)
        return otherwise
