"""Offsets of the records that a state holds, so that a record read twice counts once."""

from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

from slipstream.contracts.positions import StreamRecord, id_of_log, split_source

# A topic that is deleted and made again has a new id, and so new sources. Only the newest topics
# stay in a state: older ones can't be read any more, and a state would grow with every restart of a
# broker that keeps nothing.
TOPICS_KEPT: Final = 4


P = TypeVar("P", bound=StreamRecord)


def advance(applied: Mapping[str, int], records: Iterable[P]) -> tuple[dict[str, int], list[P]]:
    """`applied` (source → last offset) after these records, and the records new to it, in order.

    The records of one source must come in the order of their offsets, as a log gives them.
    """
    after = dict(applied)
    fresh = []
    for record in records:
        if record.offset > after.get(record.source, -1):
            after[record.source] = record.offset
            fresh.append(record)
    return newest_topics(after), fresh


def furthest(offsets: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """Both, each source with the higher offset. The other's sources come last, as the newest."""
    both = {source: offset for source, offset in offsets.items() if source not in other}
    both.update((source, max(offset, offsets.get(source, -1))) for source, offset in other.items())
    return newest_topics(both)


def newest_topics(applied: dict[str, int]) -> dict[str, int]:
    """The offsets of the newest topics. Sources stand in the order of their first record."""
    if len(applied) <= TOPICS_KEPT:
        return applied
    topics = list(dict.fromkeys(_topic(source) for source in applied))
    dropped = set(topics[:-TOPICS_KEPT])
    if not dropped:
        return applied
    return {source: offset for source, offset in applied.items() if _topic(source) not in dropped}


def _topic(source: str) -> str:
    return id_of_log(split_source(source)[0])
