"""Interactions to send over the real wire, told apart by their numbers."""

from slipstream.broker.producer import OutgoingRecord
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
