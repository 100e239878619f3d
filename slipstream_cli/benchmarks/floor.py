"""The floor of freshness: one record through the broker, and one empty answer over HTTP."""

import threading
import time
import uuid
from queue import Empty, Queue
from types import TracebackType

import httpx

from slipstream.broker.consumer import Consumer
from slipstream.broker.producer import Producer
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.events import Interaction
from slipstream.contracts.times import now_ms
from slipstream.contracts.topics import INTERACTIONS
from slipstream_cli.benchmarks.ceiling import scratch_namespace
from slipstream_cli.benchmarks.measurements import BenchmarkError

_GIVE_UP_S = 10.0


class Floor:
    """A producer and a consumer on a scratch topic, and a client of the service at `url`.

    The consumer polls all the time, as the features service does. Use it as a context manager, from
    one thread.
    """

    def __init__(self, kafka: KafkaSettings, namespace: str, url: str) -> None:
        scratch = scratch_namespace(kafka, namespace)
        self._producer = Producer(kafka, scratch)
        self._consumer = Consumer(kafka, scratch, (INTERACTIONS,), None)
        self._client = httpx.Client(base_url=url, timeout=15)
        self._arrived: Queue[tuple[str, float]] = Queue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._consume, name="floor", daemon=True)

    def __enter__(self) -> "Floor":
        self._thread.start()
        self.measure()  # the first one opens the connections
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._producer.close()
        self._client.close()

    def measure(self) -> float:
        """Measure the time of a record from sending to consumption, and of one `/health/live`.

        Returns:
            The sum of both, in milliseconds.
        """
        now = now_ms()
        event_id = uuid.uuid4().hex
        record = Interaction(
            event_id=event_id,
            event_type="click",
            user_id=event_id,
            item_id="i",
            timestamp=now,
            received_at=now,
        )
        started = time.perf_counter()
        self._producer.send(INTERACTIONS, event_id, record)
        try:
            while (arrival := self._arrived.get(timeout=_GIVE_UP_S))[0] != event_id:
                continue
        except Empty:
            raise BenchmarkError(
                f"the broker did not bring a record back within {_GIVE_UP_S:g} s"
            ) from None
        asked = time.perf_counter()
        answer = self._client.get("/health/live")
        if answer.status_code != 200:
            raise BenchmarkError(f"/health/live answered {answer.status_code}")
        return (arrival[1] - started + time.perf_counter() - asked) * 1000

    def _consume(self) -> None:
        try:
            while not self._stop.is_set():
                for message in self._consumer.poll(0.5).messages:
                    self._arrived.put((message.record.event_id, time.perf_counter()))
        finally:
            self._consumer.close()
