"""The threads behind flow and streams.

Offsets are read all the time, so that who looks sees since when something waits; records only while
somebody watches.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Final

import orjson

from services.monitoring.console import flow
from services.monitoring.console.flow import Flow, Moment
from services.monitoring.console.passing_records import WATCHED, passing
from services.monitoring.console.streams import MOST_PER_S, QUEUE, Streams
from services.monitoring.probes import ServiceState
from slipstream.broker.gauge import LogGauge
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.broker.tail import Tail, TailRecord
from slipstream.chassis.logging import get_logger
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.topics import (
    DEAD_LETTERS,
    FEATURE_UPDATES,
    INTERACTIONS,
    RECOMMENDATIONS,
    TOPICS,
)

log = get_logger(__name__)

# Seconds between two looks at whether somebody watches.
_IDLE_S: Final = 0.25
# Seconds between two readings of offsets. The second one follows soon, since it gives rates.
_EVERY_S: Final = 1.0
_FIRST_PAUSE_S: Final = 0.3
# The same while no page watches, and how long a look at the flow counts as watching: pages look
# again.
_UNWATCHED_S: Final = 5.0
_KEPT_S: Final = 15.0
# Seconds in which new updates of features arrive.
_FETCH_S: Final = 0.05
# Most updates of features that are read in a second, for what they tell of the flow.
_UPDATES_PER_S: Final = 1_000
# Moments that are remembered: a minute.
_MOMENTS: Final = 60
# Seconds between two readings of records. Each wakes every stream.
_PAUSE_S: Final = 0.03
# Records that are shown at once, and the pause before more: a client that reads at once must not
# lose any to its queue.
_PORTION: Final = QUEUE // 2
_PORTION_S: Final = 0.01
_POLL_S: Final = 0.2
# Milliseconds for which a broker may hold an empty fetch.
_FETCH_WAIT_MS: Final = 50
# Time over which rejected records are counted, and between two of its moments (s).
_REJECTED_S: Final = 3_600.0
_REJECTED_EVERY_S: Final = 60.0
# Longest wait of a look at the flow for two moments, between which there are rates.
_PATIENCE_S: Final = 4.0


class FlowWatch:
    """Reads offsets each second, and what features has applied; `run` is a worker's target.

    Args:
        updates: Connects to read the updates of features.
        streams: Streams, which get figures each second.
        services: Returns the answers of the newest round of checks.
        alerts: Returns the number of open alerts.
        clock: Returns the time in ms.
    """

    def __init__(
        self,
        gauge: Callable[[], LogGauge],
        updates: Callable[[], Tail],
        streams: Streams,
        services: Callable[[], Iterable[ServiceState]],
        alerts: Callable[[], int],
        clock: Callable[[], int],
    ) -> None:
        self._connect, self._follow, self._streams = gauge, updates, streams
        self._services, self._alerts, self._clock = services, alerts, clock
        self._wanted_until = 0.0
        self._applied: dict[int, int] = {}
        self._delay_ms: int | None = None
        self._moments = deque[Moment](maxlen=_MOMENTS)
        self._totals = deque[Moment](maxlen=int(_REJECTED_S / _REJECTED_EVERY_S) + 1)
        self._answers: bool | None = None
        self._read = threading.Condition()

    def run(self, stop: threading.Event) -> None:
        """Read until `stop` is set."""
        while not stop.is_set():
            gauge: LogGauge | None = None
            updates: Tail | None = None
            try:
                gauge, updates = self._connect(), self._follow()
                while not stop.is_set():
                    began = time.monotonic()
                    # What had arrived before, and what is new since: then the ends.
                    self._hear(updates.read(0.0)[0])
                    self._hear(updates.read(_FETCH_S)[0])
                    gauged = gauge.read()
                    self._note(
                        Moment(time.monotonic(), gauged, self._applied.copy(), self._delay_ms)
                    )
                    while (left := began + self._pause_s() - time.monotonic()) > 0:
                        if stop.wait(min(left, _IDLE_S)):
                            break
            except BrokerUnavailableError as error:
                if self._answers is not False:
                    log.warning("the flow has no figures", reason=str(error))
                self._note(None)
                stop.wait(_EVERY_S)
            finally:
                for connection in (gauge, updates):
                    if connection is not None:
                        with suppress(BrokerUnavailableError):
                            connection.close()
        self._streams.end()

    def _pause_s(self) -> float:
        if len(self._moments) == 1:
            return _FIRST_PAUSE_S
        wanted = self._streams.watched or time.monotonic() < self._wanted_until
        return _EVERY_S if wanted else _UNWATCHED_S

    def report(self) -> Flow:
        """The flow now. It waits for figures, a few seconds at most."""
        self._wanted_until = time.monotonic() + _KEPT_S
        with self._read:
            self._read.wait_for(
                lambda: self._answers is False or len(self._moments) > 1, _PATIENCE_S
            )
            moments, answers = list(self._moments), self._answers
        return Flow(
            at=self._clock(),
            nodes=flow.nodes(self._services(), answers),
            edges=flow.edges(moments),
        )

    def rejections(self) -> tuple[int, int] | None:
        """The dead letters of the last hour, and all records with them; None where not known."""
        with self._read:
            if not self._totals or not self._moments:
                return None
            rejected, accepted = (
                flow.records_between(self._totals[0], self._moments[-1], topic)
                for topic in (DEAD_LETTERS, INTERACTIONS)
            )
        return rejected, rejected + accepted

    def _hear(self, updates: Iterable[TailRecord]) -> None:
        """Take what updates tell of the interactions that features has applied."""
        for record in updates:
            update = orjson.loads(record.value or b"{}")
            if update.get("applied"):
                self._applied |= {int(at): end for at, end in update["applied"].items()}
                self._delay_ms = update["delay_ms"]

    def _note(self, moment: Moment | None) -> None:
        """Take the offsets of a moment; None where the broker does not answer."""
        with self._read:
            if moment is None:
                self._moments.clear()
            else:
                self._moments.append(moment)
                if not self._totals or moment.at - self._totals[-1].at >= _REJECTED_EVERY_S:
                    self._totals.append(moment)
            self._answers = moment is not None
            moments = list(self._moments)
            self._read.notify_all()
        self._streams.tick(
            {
                "at": self._clock(),
                "events_per_s": flow.records_per_s(moments, INTERACTIONS),
                "answers_per_s": flow.records_per_s(moments, RECOMMENDATIONS),
                "features_delay_ms": flow.features_delay_ms(moments),
                "alerts": self._alerts(),
                "edges": flow.measured(flow.edges(moments)) if self._streams.watched else [],
            }
        )


def gauge_of(kafka: KafkaSettings, namespace: str) -> Callable[[], LogGauge]:
    """Connects to read the offsets of all topics and groups."""
    return partial(LogGauge, kafka, namespace, TOPICS, tuple(flow.GROUPS.values()))


def updates_of(kafka: KafkaSettings, namespace: str) -> Callable[[], Tail]:
    """Connects to read the updates of features."""
    return partial(Tail, kafka, namespace, [FEATURE_UPDATES], _UPDATES_PER_S)


def records_target(
    kafka: KafkaSettings, namespace: str, streams: Streams
) -> Callable[[threading.Event], None]:
    """A worker target that reads records while somebody wants them, of the topics that they want.

    It raises `BrokerUnavailableError`.
    """
    unhurried = kafka.model_copy(update={"fetch_max_wait_ms": _FETCH_WAIT_MS})

    def run(stop: threading.Event) -> None:
        while not stop.is_set():
            wanted = streams.topics()
            if not wanted:
                stop.wait(_IDLE_S)
                continue
            names = WATCHED if None in wanted else [name for name in wanted if name is not None]
            tail = Tail(unhurried, namespace, [WATCHED[name] for name in names], MOST_PER_S)
            try:
                while streams.topics() == wanted and not stop.is_set():
                    records, passed = tail.read(_POLL_S)
                    if records or passed:
                        streams.show([passing(each) for each in records[:_PORTION]], passed)
                    for begin in range(_PORTION, len(records), _PORTION):
                        stop.wait(_PORTION_S)
                        portion = records[begin : begin + _PORTION]
                        streams.show([passing(each) for each in portion], 0)
                    stop.wait(_PAUSE_S)
            finally:
                with suppress(BrokerUnavailableError):
                    tail.close()

    return run
