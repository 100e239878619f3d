"""Times of messages by our clock, and the time and the id that the letter of a rejected one has."""

import secrets
from contextlib import suppress

from services.ingestion.outcomes import Origin
from services.ingestion.people_calls import Message
from slipstream.ingress import fields
from slipstream.ingress.fields import Code, RejectionError


def time_field(message: Message) -> str:
    """Name of the field with the message's time."""
    return "timestamp" if message.get("timestamp") is not None else "originalTimestamp"


def timestamp_of(message: Message, envelope: Message, received_at: int) -> int:
    """The event's time by our clock, in milliseconds.

    The client's time is moved by as much as its clock was off when it sent the message.
    """
    field = time_field(message)
    value = message.get(field)
    if value is None:
        return received_at
    happened = fields.as_millis(value, field)
    sent = message.get("sentAt", envelope.get("sentAt"))
    if sent is not None:
        happened += received_at - fields.as_millis(sent, "sentAt")
        if happened < 0:
            raise RejectionError(
                Code.INVALID_TIMESTAMP, f"{field} and sentAt together lie before 1970", field
            )
    return happened


def settle(
    kept: Message, message: Message, message_id: str | None, envelope: Message, origin: Origin
) -> None:
    """Write into a rejected message the id and the time under which it would have counted.

    So it counts once, and at its time, however late and often it is sent again. A time that can't
    be read stays as it is.

    Args:
        kept: The message as its letter has it.
        message: The message as it came.
        message_id: Its id, or the one that it was given; None where it was not read so far.
        envelope: The batch around it.
        origin: Where the request came from.
    """
    # An id that the client gave may be a personal field, which is not kept.
    own = None if message.get("messageId") else message_id
    kept["messageId"] = kept.get("messageId") or own or secrets.token_hex(16)
    with suppress(RejectionError):
        happened = timestamp_of(message, envelope, origin.received_at)
        # A time may be any number, and a letter's numbers have 64 bits.
        if happened.bit_length() < 64:
            kept["timestamp"] = happened
            kept.pop("sentAt", None)
