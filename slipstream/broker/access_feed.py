"""The feed of access keys in memory, from `access-keys.v1`; and the report of their uses."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from slipstream.broker.consumer import Consumer
from slipstream.broker.loop import observe
from slipstream.broker.producer import Producer
from slipstream.broker.watch import ConsumerWatch
from slipstream.chassis.access.keys import KeyRing
from slipstream.chassis.logging import get_logger
from slipstream.chassis.metrics import Metrics
from slipstream.chassis.settings import ServiceSettings
from slipstream.contracts.events import AccessKey, AccessKeyUse
from slipstream.contracts.topics import ACCESS_KEY_USES, ACCESS_KEYS

log = get_logger(__name__)

# Greatest delay of a change of a key (ms). Every fetch costs time, full or empty.
DELAY_MS: Final = 500
# Least seconds between two reports of the keys that were used.
REPORT_EVERY_S: Final = 60.0
# Seconds between two looks whether the topic was made anew, each of which asks the broker.
_LOOK_EVERY_S: Final = 2.0


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
        self._kafka = settings.kafka.model_copy(update={"fetch_max_wait_ms": DELAY_MS})
        self._namespace, self._ring, self._renewed = settings.namespace, ring, renewed
        self._metrics, self.watch = metrics, ConsumerWatch(metrics)
        self._producer = producer
        self._topic_id, self._due, self._report_due = "", 0.0, 0.0
        self._kept_in, self._known = kept_in, dict[str, AccessKey]()
        ring.loading = True

    def run(self, stop: threading.Event) -> None:
        """Read the topic from its beginning until `stop` is set."""
        if not self._known:
            self._restore()
        consumer = Consumer(self._kafka, self._namespace, [ACCESS_KEYS], group=None)
        self.watch.begin(consumer)
        try:
            ends = consumer.ends()
            while not stop.is_set():
                batch = consumer.poll(DELAY_MS / 1000)
                for message in batch.messages:
                    self._take(message.record)
                if batch:
                    observe(batch, self._metrics)
                was_loading = self._ring.loading
                if was_loading and consumer.has_reached(ends):
                    self._ring.loading = False
                if not self._ring.loading and (was_loading or batch.messages):
                    self._keep()
                self._notice_renewal(consumer)
                self._report_uses()
                self.watch.update()
        finally:
            consumer.close()

    def _take(self, record: AccessKey) -> None:
        self._ring.take(record)
        self._known[record.digest] = record

    def _restore(self) -> None:
        """Take the keys of the file, where there is one."""
        if self._kept_in is None:
            return
        try:
            for line in self._kept_in.read_text(encoding="utf-8").splitlines():
                self._take(AccessKey.model_validate_json(line))
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            log.warning("the kept access keys can't be read", reason=str(error))

    def _keep(self) -> None:
        if self._kept_in is None:
            return
        lines = "".join(f"{record.model_dump_json()}\n" for record in self._known.values())
        part = self._kept_in.with_name(f".{self._kept_in.name}.{os.getpid()}")
        try:
            self._kept_in.parent.mkdir(parents=True, exist_ok=True)
            part.touch(0o600)
            part.write_text(lines, encoding="utf-8")
            part.replace(self._kept_in)
        except OSError as error:
            log.warning("the access keys are not kept for a start", reason=str(error))

    def _report_uses(self) -> None:
        if (now := time.monotonic()) < self._report_due:
            return
        for digest, used_at in self._ring.take_uses().items():
            use = AccessKeyUse(digest=digest, used_at=used_at)
            self._producer.send(ACCESS_KEY_USES, digest, use)
            self._report_due = now + REPORT_EVERY_S

    def _notice_renewal(self, consumer: Consumer) -> None:
        now = time.monotonic()
        if self._renewed is None or now < self._due:
            return
        self._due = now + _LOOK_EVERY_S
        topic_id = "".join(source.topic_id for source in consumer.ends())
        # The first look counts, too: what was published before it may have gone to an older topic.
        # A topic that is missing has no id, and may come back as it was.
        if topic_id and topic_id != self._topic_id:
            self._topic_id = topic_id
            self._renewed()
