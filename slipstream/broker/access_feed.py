"""The feed of access keys in memory, from `access-keys.v1`; and the report of their uses."""

import time
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Final

from slipstream.broker.consumer import Consumer
from slipstream.broker.follower import DELAY_MS, Follower
from slipstream.broker.producer import Producer
from slipstream.chassis.access.keys import KeyRing
from slipstream.chassis.metrics import Metrics
from slipstream.chassis.settings import ServiceSettings
from slipstream.contracts.access import AccessKey, AccessKeyUse
from slipstream.contracts.topics import ACCESS_KEY_USES, ACCESS_KEYS

# Least seconds between two reports of the keys that were used.
REPORT_EVERY_S: Final = 60.0


class AccessKeyFeed:
    """Keeps a service's key ring up to date; `run` is a worker's target.

    While the broker is away, the last known keys stay valid. A service that keeps them in a file
    knows them after a start, too.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        ring: KeyRing,
        metrics: Metrics,
        producer: Producer,
        renewed: Callable[[], None] | None = None,
        kept_in: Path | None = None,
    ) -> None:
        """With the ring to fill, which is `loading` from now on.

        Args:
            settings: The service's settings.
            ring: Key ring of the service.
            metrics: Metrics of the chassis.
            producer: Sends the uses of keys; one that is lost makes a last use earlier.
            renewed: Called when the topic is first seen, and whenever it was made anew: it may
                lack keys.
            kept_in: File of the last known keys' digests and scopes, for a start without a broker.
        """
        kafka = settings.kafka.model_copy(update={"fetch_max_wait_ms": DELAY_MS})
        self._ring, self._producer, self._report_due = ring, producer, 0.0
        self._follower = Follower(
            ACCESS_KEYS,
            partial(Consumer, kafka, settings.namespace, [ACCESS_KEYS], group=None),
            self._take,
            metrics,
            kept_in=kept_in,
            renewed=renewed,
            each_turn=self._turn,
        )
        self.watch, self.run = self._follower.watch, self._follower.run
        ring.loading = True

    def _take(self, keys: Collection[AccessKey]) -> None:
        for key in keys:
            self._ring.take(key)

    def _turn(self) -> None:
        self._ring.loading = not self._follower.caught_up
        if (now := time.monotonic()) < self._report_due:
            return
        for digest, used_at in self._ring.take_uses().items():
            use = AccessKeyUse(digest=digest, used_at=used_at)
            self._producer.send(ACCESS_KEY_USES, digest, use)
            self._report_due = now + REPORT_EVERY_S
