"""Notices of erasures to other services, and requests that Redis rewrite its files."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Final

from services.features.history.people import ErasedPerson
from services.features.history.receipts import newest_erasure
from slipstream.broker.producer import OutgoingRecord, Producer
from slipstream.chassis.logging import get_logger
from slipstream.contracts.events import ErasedVisitors
from slipstream.contracts.times import now_ms
from slipstream.contracts.topics import ERASED_VISITORS
from slipstream.stores.lake import ERASURES, Lake, LakeUnavailableError
from slipstream.stores.online import StoreUnavailableError
from slipstream.stores.redis_server import RedisFiles

log = get_logger(__name__)

# Visitors in one record: with ids of 256 bytes it is well below a broker's limit.
_VISITORS: Final = 1_000


def notices(people: Sequence[ErasedPerson]) -> list[OutgoingRecord]:
    """The records that list the visitors of these erasures, and their cuts."""
    outgoing = []
    for person in people:
        request = person.request.record
        if not request.erasure_id:
            continue
        visitors = sorted(person.visitor_ids)
        for begin in range(0, len(visitors), _VISITORS):
            told = ErasedVisitors(
                erasure_id=request.erasure_id,
                visitor_ids=visitors[begin : begin + _VISITORS],
                cut=request.cut,
                last=begin + _VISITORS >= len(visitors),
                asked_at=request.timestamp,
                slates_until=person.slates_until,
            )
            outgoing.append(OutgoingRecord(ERASED_VISITORS, told.erasure_id, told))
    return outgoing


def tell(producer: Producer, people: Sequence[ErasedPerson]) -> None:
    """Send other services the visitors of these erasures. Raises `BrokerUnavailableError`."""
    asyncio.run(producer.publish(notices(people)))


def keep_redis_files(files: RedisFiles, lake: Lake, every_s: float, stop: threading.Event) -> None:
    """Have Redis rewrite its files after erasures, until `stop` is set.

    Args:
        files: Redis' files.
        lake: The lake; its receipts hold the time of the last erasure.
        every_s: The interval of looks.
        stop: Ends the loop.
    """
    seen: int | None = None
    newest = 0
    while not stop.wait(every_s):
        try:
            version = lake.version(ERASURES)
            if version != seen:
                newest, seen = newest_erasure(lake), version
            if newest:
                files.rewrite(newest, now_ms())
        except (LakeUnavailableError, StoreUnavailableError) as error:
            log.warning("files of Redis wait to be rewritten", reason=str(error))
