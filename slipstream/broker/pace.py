"""The pace of a consumer: how long the broker holds its fetches, and what it reads now and then."""

import time
from collections.abc import Collection, Mapping
from typing import Any, Final

from slipstream.broker.consumer_client import ConsumerClient

# Seconds without a record of others than unhurried topics, after which the broker holds an empty
# fetch for longer: for twice the set time, and this at least (ms). The embedded broker answers a
# fetch only when its time ends, so the first click after a rest waits for as long.
REST_AFTER_S: Final = 10.0
REST_WAIT_MS: Final = 200
# What a poll at rest waits beyond that: one that gave up on its fetch would only begin again (ms).
_ANSWER_LATE_MS: Final = 50
# Seconds between two readings of unhurried topics, unless this many records came: more may wait.
UNHURRIED_EVERY_S: Final = 1.0
_BACKLOG: Final = 1_000


class Pace:
    """Polls a client. An empty fetch costs both sides a millisecond of processor time, and a batch
    of few records as much as one of many.
    """

    def __init__(self, client: ConsumerClient, wait_ms: int, unhurried: Collection[str]) -> None:
        """
        Args:
            client: The client.
            wait_ms: How long the broker may hold an empty fetch while records come.
            unhurried: Topics, by their names on the broker, that are read once a second.
        """
        self._client, self._wait_ms, self._unhurried = client, wait_ms, unhurried
        self._rest_at = time.monotonic() + REST_AFTER_S
        self._resume_at: float | None = None

    def poll(self, timeout_ms: float) -> Mapping[Any, list[Any]]:
        """The next records by partition; none after `timeout_ms`, at rest when the broker answers.

        Raises `KafkaError`.
        """
        now, wait_ms = time.monotonic(), self._wait_ms
        if now >= self._rest_at:
            wait_ms = max(2 * wait_ms, REST_WAIT_MS)
            timeout_ms = max(timeout_ms, wait_ms + _ANSWER_LATE_MS)
        if self._resume_at is not None and now >= self._resume_at:
            self._client.pass_over(self._unhurried, False)
            self._resume_at = None
        self._client.hold_fetches(wait_ms)
        polled: Mapping[Any, list[Any]] = self._client.poll(timeout_ms)
        now = time.monotonic()
        unhurried = [len(new) for at, new in polled.items() if at.topic in self._unhurried]
        if len(unhurried) < len(polled):
            self._rest_at = now + REST_AFTER_S
        if unhurried and sum(unhurried) < _BACKLOG:
            self._client.pass_over(self._unhurried, True)
            self._resume_at = now + UNHURRIED_EVERY_S
        return polled
