"""Late records: made before the erasure of their visitor, and read behind its cut.

A slate waits for others before it is sent, a broker stands still, a client sends again,
a dead letter is replayed. Each brings back what the erasure took, at any delay. So an erasure marks
its visitors with a time, and readers leave out records that were made before it. The marks hold
digests and no names. An erasure's id, which is that of its receipt too, holds the time when it was
given out.
"""

import hashlib
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from slipstream.contracts.events import CatalogRecord, Interaction, Slate
from slipstream.contracts.slates import RecordedSlate
from slipstream.contracts.times import DAY_MS
from slipstream.contracts.topics import PERSONAL
from slipstream.contracts.vocabulary import MERGED_INTO

# Time for which an erased visitor is marked: the longest that a topic keeps a record, which can be
# replayed until then, and a day.
MARKED_MS: Final = max(topic.retention_ms or 0 for topic in PERSONAL) + DAY_MS
# A slate is dated when it is made, from a state that was read up to a deadline earlier, by another
# machine's clock. Slates of so long after the state was erased count as made before.
SLATE_LEEWAY_MS: Final = 60_000
_DIGEST_BYTES: Final = 16


class ErasureMark(NamedTuple):
    """The times (ms) up to which an erased visitor's records are left out.

    Attributes:
        asked_at: For events and for records of people: when the erasure was requested.
        slates_until: For slates: until then they may be made from a state that was not erased yet.
    """

    asked_at: int
    slates_until: int


def visitor_digest(visitor_id: str) -> str:
    """The name of a visitor in marks: 32 digits in hex."""
    return hashlib.blake2b(visitor_id.encode(), digest_size=_DIGEST_BYTES).hexdigest()


def visitors_of(record: object) -> tuple[str, ...]:
    """The ids of the visitors that a record is about; none for items and requests to erase."""
    if isinstance(record, Interaction):
        same = record.anonymous_id in (None, record.user_id)
        return (record.user_id,) if same else (record.user_id, str(record.anonymous_id))
    if isinstance(record, Slate | RecordedSlate):
        return (record.user_id,)
    if isinstance(record, CatalogRecord) and not record.deleted:
        if record.entity == "identity":
            return record.entity_id, str(record.attributes.get(MERGED_INTO))
        if record.entity in ("user", "user_patch"):
            return (record.entity_id,)
    return ()


def made_at(record: Interaction | Slate | RecordedSlate | CatalogRecord) -> int:
    """The time (ms) at which a record was made: of an event the earlier one of its two times."""
    if isinstance(record, Interaction):
        return min(record.timestamp, record.received_at)
    return record.timestamp


R = TypeVar("R")


def without_late(
    messages: Iterable[R],
    record_of: Callable[[R], Any],
    marks_of: Callable[[Collection[str]], Mapping[str, ErasureMark]],
) -> list[R]:
    """The messages without the late records of erased visitors."""
    messages = list(messages)
    about = [[*map(visitor_digest, visitors_of(record_of(each)))] for each in messages]
    digests = {digest for each in about for digest in each}
    marks = marks_of(digests) if digests else {}
    if not marks:
        return messages
    return [
        message
        for message, names in zip(messages, about, strict=True)
        if not any(
            _is_late(record_of(message), marks[digest]) for digest in names if digest in marks
        )
    ]


def _is_late(
    record: Interaction | Slate | RecordedSlate | CatalogRecord, mark: ErasureMark
) -> bool:
    until = mark.slates_until if isinstance(record, Slate | RecordedSlate) else mark.asked_at
    return made_at(record) <= until


# The first digits, in hex, are the time (ms); the others are random.
_TIME_DIGITS: Final = 12
_RANDOM_BYTES: Final = 10
# For so long a request may be on its way to those who keep receipts.
_ON_ITS_WAY_MS: Final = DAY_MS
# How far clocks of different machines may stand apart.
_LEEWAY_MS: Final = 300_000


def new_erasure_id(now_ms: int) -> str:
    """A new id: 32 digits in hex, which begin with the time."""
    return f"{now_ms:0{_TIME_DIGITS}x}{secrets.token_hex(_RANDOM_BYTES)}"


def may_be_on_its_way(erasure_id: str, now_ms: int) -> bool:
    """Whether an unknown request may have been accepted within the last day, by its id's time.

    An invented id passes, too; the answer to it says nothing else.
    """
    try:
        given_at = int(erasure_id[:_TIME_DIGITS], 16)
    except ValueError:
        return False
    whole = len(erasure_id) == _TIME_DIGITS + 2 * _RANDOM_BYTES
    return whole and -_LEEWAY_MS <= now_ms - given_at <= _ON_ITS_WAY_MS
