"""Records that a broker refuses for good, and chunks that are sent again."""

from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest
from prometheus_client import CollectorRegistry

from services.ingestion.carrier import SpooledCarrier
from services.ingestion.spool import Spool, SpoolPosition
from slipstream.broker.kafka import BrokerUnavailableError, RecordRefusedError
from slipstream.broker.producer import Failure, OutgoingRecord
from slipstream.contracts.topics import INTERACTIONS


class Broker:
    """A carrier that takes a request's records up to the first one with a refused key."""

    def __init__(self, refused: set[str]) -> None:
        self.away = True
        self.refused = refused
        self.taken: list[str] = []
        self.marked: list[str] = []
        # Answers to the next single records.
        self.failing: list[Failure] = []

    async def publish_each(self, lists: Sequence[Sequence[OutgoingRecord]]) -> list[Failure]:
        failures: list[Failure] = []
        for records in lists:
            if len(records) == 1 and self.failing:
                failures.append(self.failing.pop())
                continue
            failure = None
            for record in records:
                if record.key in self.refused:
                    failure = RecordRefusedError("too large")
                    break
                assert isinstance(record.record, bytes)
                repeat = orjson.loads(record.record).get("maybe_repeat")
                (self.marked if repeat else self.taken).append(record.key)
            failures.append(failure)
        return failures


async def spooled(broker: Broker, spool: Spool) -> SpooledCarrier:
    """A carrier that has three records on disk, while the broker is unavailable."""
    carrier = SpooledCarrier(broker, spool, CollectorRegistry()).start()
    records = [[OutgoingRecord(INTERACTIONS, key, b'{"user_id":"u"}')] for key in "abc"]
    assert await carrier.publish_each(records) == [None] * 3
    return carrier


@pytest.mark.parametrize(
    ("refused", "taken", "marked"),
    [
        ({"a"}, [], ["b", "c"]),
        ({"c"}, ["a", "b"], ["a", "b"]),
        ({"a", "b", "c"}, [], []),
    ],
)
async def test_refused_records_do_not_stop_the_spool_and_others_are_marked_as_repeats(
    tmp_path: Path, refused: set[str], taken: list[str], marked: list[str]
) -> None:
    broker = Broker(refused)
    spool = Spool(tmp_path, 10**6)
    carrier = await spooled(broker, spool)
    broker.away = False
    await carrier.aclose(30.0)
    assert (spool.empty, broker.taken, broker.marked) == (True, taken, marked)


async def test_a_broker_that_goes_amid_a_chunk_with_a_refused_record_gets_the_rest_marked(
    tmp_path: Path,
) -> None:
    broker = Broker({"b"})
    spool = Spool(tmp_path, 10**6)
    carrier = await spooled(broker, spool)
    broker.failing = [BrokerUnavailableError("gone")] * 3
    broker.away = False
    await carrier.aclose(30.0)
    assert (spool.empty, broker.taken, broker.marked) == (True, ["a"], ["a", "a", "c"])


async def test_a_chunk_is_marked_that_is_sent_again_since_its_position_was_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker(set())
    spool = Spool(tmp_path, 10**6)
    failures = [OSError(28, "No space left on device")]
    store = spool._store

    def store_later(position: SpoolPosition) -> None:
        if failures:
            raise failures.pop()
        store(position)

    monkeypatch.setattr(spool, "_store", store_later)
    carrier = await spooled(broker, spool)
    broker.away = False
    await carrier.aclose(30.0)
    assert (spool.empty, broker.taken, broker.marked) == (True, [*"abc"], [*"abc"])
