"""A follower of a compacted topic: the newest state of each key, with a copy in a file.

The feed of access keys is one, from `access-keys.v1`; it also reports the keys' uses.
"""

import os
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from slipstream.broker.consumer import Consumer
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.broker.loop import consume
from slipstream.broker.producer import Producer
from slipstream.broker.records import Batch
from slipstream.broker.watch import ConsumerWatch
from slipstream.chassis.access.keys import KeyRing
from slipstream.chassis.logging import get_logger
from slipstream.chassis.metrics import Metrics
from slipstream.chassis.settings import ServiceSettings
from slipstream.contracts.access import AccessKey, AccessKeyUse
from slipstream.contracts.events import Record
from slipstream.contracts.topics import ACCESS_KEY_USES, ACCESS_KEYS, Topic

log = get_logger(__name__)

# Greatest delay of a change (ms). Every fetch costs time, full or empty.
DELAY_MS: Final = 500
# Seconds between two checks, with the broker, whether the topic was recreated.
_LOOK_EVERY_S: Final = 2.0


class Follower:
    """Follows a compacted topic with few and small records; `run` is a worker's target.

    What the topic holds at the start comes all at once, when its end is reached: a record before
    the newest one of its key never counts. While the broker is unavailable, the last known states
    stay. So they do after the topic was recreated, until it has newer ones.

    Attributes:
        caught_up: Whether the topic was read to the end that it had at the start.
        restored: Whether the file held the states as they were last.
        broker_was_away: Whether the broker was looked for in vain, now or before.
    """

    def __init__(
        self,
        topic: Topic,
        consumer: Callable[[], Consumer],
        take: Callable[[Collection[Any]], None],
        metrics: Metrics,
        *,
        kept_in: Path | None = None,
        renewed: Callable[[], None] | None = None,
        each_turn: Callable[[], None] = lambda: None,
    ) -> None:
        """With nothing read yet.

        Args:
            take: Gets the newest record of each key that came, of the file or of the topic.
            kept_in: File of the last known states, for a start without a broker.
            renewed: Called when the topic is first seen, and whenever it was recreated: it may
                lack states.
            each_turn: Called after each look at the topic, at least every `DELAY_MS`.
        """
        self._topic, self._consumer, self._take = topic, consumer, take
        self.watch = ConsumerWatch(metrics)
        self._kept_in, self._renewed, self._each_turn = kept_in, renewed, each_turn
        self._known = dict[str, Record]()
        # Records that were read and not yet taken; whether the topic's end was reached in this run.
        self._newest, self._at_end = dict[str, Record](), False
        self._topic_id, self._look_due = "", 0.0
        self.caught_up = self.restored = self.broker_was_away = False

    def run(self, stop: threading.Event) -> None:
        """Read the topic from its beginning until `stop` is set.

        Raises:
            BrokerUnavailableError: The broker is unavailable. Call it again.
        """
        if not self._known:
            self._restore()
        self._newest, self._at_end = {}, False
        try:
            consumer = self._consumer()
            consume(
                consumer,
                self._read,
                stop,
                self.watch,
                poll_s=DELAY_MS / 1000,
                at_end=self._reach_end,
                each_turn=lambda: self._turn(consumer),
            )
        except BrokerUnavailableError:
            self.broker_was_away = True
            raise

    def _read(self, batch: Batch) -> None:
        self._newest |= {self._key(each.record): each.record for each in batch.messages}
        if self._at_end:
            self._take_newest()

    def _reach_end(self) -> None:
        self._at_end = True
        self._take_newest()

    def _take_newest(self) -> None:
        if self._newest or not self.caught_up:
            self._apply(self._newest)
            self._keep()
            self.caught_up, self._newest = True, {}

    def _turn(self, consumer: Consumer) -> None:
        self._notice_renewal(consumer)
        self._each_turn()

    def _key(self, record: Record) -> str:
        key: str = getattr(record, self._topic.key)
        return key

    def _apply(self, newest: dict[str, Record]) -> None:
        self._known |= newest
        self._take(newest.values())

    def _restore(self) -> None:
        """Take the states of the file, where there is one: all of them, or none."""
        if self._kept_in is None:
            return
        try:
            lines = self._kept_in.read_text(encoding="utf-8").splitlines()
            records = [self._topic.record.model_validate_json(line) for line in lines]
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError, ValidationError) as error:
            log.warning("a kept topic can't be read", topic=self._topic.name, reason=str(error))
            return
        self._apply({self._key(record): record for record in records})
        self.restored = True

    def _keep(self) -> None:
        if self._kept_in is None:
            return
        lines = "".join(f"{record.model_dump_json()}\n" for record in self._known.values())
        part = self._kept_in.with_name(f".{self._kept_in.name}.{os.getpid()}")
        try:
            self._kept_in.parent.mkdir(parents=True, exist_ok=True)
            part.touch(0o600)
            with part.open("w", encoding="utf-8") as file:
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())  # an empty file would say that there are no states
            part.replace(self._kept_in)
        except OSError as error:
            log.warning(
                "a topic is not kept for a start", topic=self._topic.name, reason=str(error)
            )
            for outdated in (part, self._kept_in):
                with suppress(OSError):
                    outdated.unlink(missing_ok=True)

    def _notice_renewal(self, consumer: Consumer) -> None:
        now = time.monotonic()
        if self._renewed is None or now < self._look_due:
            return
        self._look_due = now + _LOOK_EVERY_S
        topic_id = "".join(source.topic_id for source in consumer.ends())
        # The first look counts, too: what was published before it may have gone to an older topic.
        # A topic that is missing has no id, and may come back as it was.
        if topic_id and topic_id != self._topic_id:
            self._topic_id = topic_id
            self._renewed()


# Least seconds between two reports of the keys that were used.
REPORT_EVERY_S: Final = 60.0


class AccessKeyFeed:
    """Keeps a service's key ring up to date; `run` is a worker's target.

    While the broker is unavailable, the last known keys stay valid. A service that keeps them in a
    file knows them after a start, too.
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
            producer: Sends the uses of keys; one that is lost makes a last use earlier.
            renewed: Called when the topic is first seen, and whenever it was recreated: it may
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
