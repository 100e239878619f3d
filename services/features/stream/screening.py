"""Which records of a batch can be applied; the others become dead letters and never block their
partition.
"""

from collections import Counter
from dataclasses import replace
from typing import Any, Final, NamedTuple

from services.features.metrics import LATE_OVER_H
from slipstream.broker.batch import Batch, Malformed, Message
from slipstream.contracts.events import DeadLetter, Interaction
from slipstream.contracts.times import HOUR_MS
from slipstream.contracts.vocabulary import MAX_POSITION

# Of an original that is too long for a letter, the beginning is kept.
_LONGEST_ORIGINAL: Final = 64 * 1024


class Limits(NamedTuple):
    """How far an event may lie ahead of its arrival, and behind it, in ms."""

    ahead_ms: int
    late_ms: int


class ScreeningResult(NamedTuple):
    """The batch without what can't be applied, a dead letter for each record that was left out, and
    how many accepted events came over so many hours late (`LATE_OVER_H`).
    """

    batch: Batch
    letters: list[DeadLetter]
    late: Counter[int]


def screen(batch: Batch, now_ms: int, limits: Limits) -> ScreeningResult:
    """Which records of the batch can be applied.

    Left out are bytes that are no record of their topic, interactions too far ahead of their
    arrival (one event dated 2099 would push everything else out of an item's windows and out of
    trending) or too late, unless they were imported, and positions beyond 32 bits. The verdict
    depends on the record alone, so a record read again gets the same one.
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
                letters.append(
                    _letter(message, *fault[:2], event.model_dump_json(), now_ms, fault[2])
                )
                continue
            if event.received_at - event.timestamp > least_late_ms and not event.imported:
                late[
                    next(
                        h for h in LATE_OVER_H if event.received_at - event.timestamp > h * HOUR_MS
                    )
                ] += 1
        accepted.append(message)
    return ScreeningResult(replace(batch, messages=accepted, malformed=[]), letters, late)


def _fault(event: Interaction, limits: Limits) -> tuple[str, str, str] | None:
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
    place: Message[Any] | Malformed,
    code: str,
    reason: str,
    original: str,
    now_ms: int,
    field: str | None = None,
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
