"""Interactions to send over the real wire, told apart by their numbers."""

import asyncio
import time
from collections.abc import Sequence

from slipstream.broker.kafka import BrokerUnavailableError, NotAcknowledgedError, RecordRefusedError
from slipstream.broker.producer import OutgoingRecord, Producer
from slipstream.contracts.events import Interaction
from slipstream.contracts.topics import INTERACTIONS


def an_interaction(number: int, user: str = "ada") -> Interaction:
    return Interaction(
        event_id=f"e{number}",
        event_type="view",
        user_id=user,
        item_id="i",
        timestamp=number,
        received_at=number,
    )


def outgoing(numbers: range, users: int = 1) -> list[OutgoingRecord]:
    return [
        OutgoingRecord(INTERACTIONS, f"u{n % users}", an_interaction(n, f"u{n % users}"), f"r{n}")
        for n in numbers
    ]


async def published(
    producer: Producer, records: Sequence[OutgoingRecord], limit_s: float = 60.0
) -> None:
    """Publish records once the producer takes them.

    After a broker that was slow to answer, it refuses them at once until it has looked for one.
    What was sent and not acknowledged is not sent again, since it might come twice.
    """
    deadline = time.monotonic() + limit_s
    while True:
        try:
            await producer.publish(records)
            return
        except (NotAcknowledgedError, RecordRefusedError):
            raise
        except BrokerUnavailableError:
            assert time.monotonic() < deadline, "the producer did not recover"
            await asyncio.sleep(0.1)
