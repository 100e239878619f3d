"""Which records of a batch can be applied; the others become dead letters and never block their partition."""

from dataclasses import replace
from typing import Any, Final

from slipstream.broker.consumer import Batch, Malformed, Message
from slipstream.contracts.events import DeadLetter, Interaction

#: Of an original that is too long for a letter, the beginning is kept.
_LONGEST_ORIGINAL: Final = 64 * 1024
_LARGEST_POSITION: Final = 2**31 - 1


def screened(batch: Batch, now_ms: int, max_ahead_ms: int) -> tuple[Batch, list[DeadLetter]]:
    """The batch without what can't be applied, and a dead letter for each record that was left out.

    Left out are bytes that are no record of their topic, interactions over `max_ahead_ms` ahead of their arrival (one event
    dated 2099 would push everything else out of an item's windows and out of trending), and positions beyond 32 bits. The
    verdict depends on the record alone, so a record read again gets the same one.
    """
    letters = [
        _letter(bad, "malformed_record", bad.reason, bad.value.decode(errors="replace"), now_ms) for bad in batch.malformed
    ]
    accepted = []
    for message in batch.messages:
        if isinstance(message.record, Interaction) and (fault := _fault(message.record, max_ahead_ms)):
            letters.append(_letter(message, *fault[:2], message.record.model_dump_json(), now_ms, fault[2]))
        else:
            accepted.append(message)
    return replace(batch, messages=accepted, malformed=[]), letters


def _fault(event: Interaction, max_ahead_ms: int) -> tuple[str, str, str] | None:
    if event.timestamp > event.received_at + max_ahead_ms:
        ahead_h = (event.timestamp - event.received_at) / 3_600_000
        return "timestamp_ahead", f"timestamp is {ahead_h:.1f} h ahead of its arrival", "timestamp"
    if event.position is not None and event.position > _LARGEST_POSITION:
        return "position_out_of_range", f"position is over {_LARGEST_POSITION}", "position"
    return None


def _letter(
    place: Message[Any] | Malformed, code: str, reason: str, original: str, now_ms: int, field: str | None = None
) -> DeadLetter:
    source = f"{place.source.topic}:{place.source.partition}:{place.offset}"
    return DeadLetter(
        source="features",
        code=code,
        reason=f"{source}: {reason}",
        field=field,
        original=original[:_LONGEST_ORIGINAL],
        received_at=now_ms,
        request_id=place.request_id,
    )
