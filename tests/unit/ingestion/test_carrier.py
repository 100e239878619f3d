"""Records that a broker refuses for good."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from services.ingestion.carrier import SpooledCarrier
from services.ingestion.spool import Spool
from slipstream.broker.kafka import RecordRefusedError
from slipstream.broker.producer import Failure, OutgoingRecord
from slipstream.contracts.topics import INTERACTIONS


class Broker:
    """A carrier that refuses a whole request if one of its records has a refused key."""

    def __init__(self, refused: set[str]) -> None:
        self.away = True
        self.refused = refused
        self.taken: list[str] = []

    async def publish_each(self, lists: Sequence[Sequence[OutgoingRecord]]) -> list[Failure]:
        failures: list[Failure] = []
        for records in lists:
            keys = [record.key for record in records]
            if self.refused.intersection(keys):
                failures.append(RecordRefusedError("too large"))
            else:
                self.taken += keys
                failures.append(None)
        return failures


@pytest.mark.parametrize(("refused", "taken"), [({"a"}, ["b", "c"]), ({"a", "b", "c"}, [])])
async def test_refused_records_do_not_stop_the_spool(
    tmp_path: Path, refused: set[str], taken: list[str]
) -> None:
    broker = Broker(refused)
    spool = Spool(tmp_path, 10**6)
    carrier = SpooledCarrier(broker, spool, CollectorRegistry()).start()
    assert (
        await carrier.publish_each([[OutgoingRecord(INTERACTIONS, key, b"{}")] for key in "abc"])
        == [None] * 3
    )
    broker.away = False
    await carrier.aclose(30.0)
    assert (spool.empty, broker.taken) == (True, taken)
