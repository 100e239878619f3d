"""Screening of batches: records that can't be applied become dead letters.

A bad record so never blocks its partition.
"""

from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import replace
from typing import Any, Final, NamedTuple

from services.features.metrics import LATE_OVER_H
from slipstream.broker.batch import Batch, MalformedMessage, Message
from slipstream.contracts.events import DeadLetter, Interaction
from slipstream.contracts.item_patches import MAX_PATCHED_BYTES
from slipstream.contracts.positions import Position
from slipstream.contracts.times import HOUR_MS
from slipstream.contracts.vocabulary import MAX_POSITION

# Characters of the original record that a letter keeps, from its beginning.
_LONGEST_ORIGINAL: Final = 64 * 1024


class Limits(NamedTuple):
    """Most ms that an event may lie ahead of its arrival, and behind it."""

    ahead_ms: int
    late_ms: int


class ScreeningResult(NamedTuple):
    """A screened batch: the records that can be applied, and dead letters for the others.

    `late` counts accepted events by the hours that they are late (`LATE_OVER_H`).
    """

    batch: Batch
    letters: list[DeadLetter]
    late: Counter[int]


def screen(batch: Batch, now_ms: int, limits: Limits) -> ScreeningResult:
    """Screen a batch for records that can't be applied.

    These are bytes that are no record of their topic, positions beyond 32 bits, and interactions
    too far ahead of their arrival: an event dated 2099 would push all others out of an item's
    windows and out of trending. Interactions that are too late are left out, too, unless they were
    imported. The verdict depends on the record alone, so a record read again gets the same.
    """
    letters = [
        _letter(bad, "malformed_record", bad.reason, bad.value.decode(errors="replace"), now_ms)
        for bad in batch.malformed
    ]
    accepted, late = [], Counter[int]()
    least_late_ms = min(LATE_OVER_H) * HOUR_MS
    for message in batch.messages:
        event = message.record
        if isinstance(event, Interaction):
            if fault := _fault(event, limits):
                code, reason, field = fault
                original = event.model_dump_json()
                letters.append(_letter(message, code, reason, original, now_ms, field))
                continue
            late_ms = event.received_at - event.timestamp
            if late_ms > least_late_ms and not event.imported:
                late[next(hours for hours in LATE_OVER_H if late_ms > hours * HOUR_MS)] += 1
        accepted.append(message)
    return ScreeningResult(replace(batch, messages=accepted, malformed=[]), letters, late)


def missed_patches(
    messages: Iterable[Message[Any]], missed: Set[Position], now_ms: int
) -> list[DeadLetter]:
    """Dead letters of the patches, at these positions, that changed nothing."""
    return [
        _letter(
            message,
            "unknown_item",
            "a patch changes an item that is there: this one is not, was deleted, or would have "
            f"more than {MAX_PATCHED_BYTES} bytes; upsert it whole",
            message.record.model_dump_json(),
            now_ms,
            "item_id",
        )
        for message in messages
        if message.position in missed
    ]


def _fault(event: Interaction, limits: Limits) -> tuple[str, str, str] | None:
    """Code, reason and field of the first fault of an interaction; None without a fault."""
    ahead_ms = event.timestamp - event.received_at
    if ahead_ms > limits.ahead_ms:
        return (
            "timestamp_ahead",
            f"timestamp is {ahead_ms / HOUR_MS:.1f} h ahead of its arrival",
            "timestamp",
        )
    if -ahead_ms > limits.late_ms and not event.imported:
        return (
            "timestamp_late",
            f"timestamp is {-ahead_ms / HOUR_MS:.1f} h before its arrival",
            "timestamp",
        )
    if event.position is not None and event.position > MAX_POSITION:
        return "position_out_of_range", f"position is over {MAX_POSITION}", "position"
    return None


def _letter(
    refused: Message[Any] | MalformedMessage,
    code: str,
    reason: str,
    original: str,
    now_ms: int,
    field: str | None = None,
) -> DeadLetter:
    """A dead letter for a refused record; `field` names the field at fault."""
    position = f"{refused.source.topic}:{refused.source.partition}:{refused.offset}"
    return DeadLetter(
        source="features",
        code=code,
        reason=f"{position}: {reason}",
        field=field,
        original=original[:_LONGEST_ORIGINAL],
        received_at=now_ms,
        request_id=refused.request_id,
    )
