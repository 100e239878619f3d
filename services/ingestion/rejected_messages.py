"""The id and the time under which a rejected message would have counted, for its letter."""

import secrets
from contextlib import suppress

from services.ingestion import fields
from services.ingestion.outcomes import Origin
from services.ingestion.people_calls import Message


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
    with suppress(fields.RejectionError):
        happened = fields.timestamp_of(message, envelope, origin.received_at)
        # A time may be any number, and a letter's numbers have 64 bits.
        if happened.bit_length() < 64:
            kept["timestamp"] = happened
            kept.pop("sentAt", None)
