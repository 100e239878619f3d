"""Which records a state already holds, so that a record read twice counts once."""

from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

from slipstream.contracts.positions import StreamRecord, split_source

# A topic that is deleted and made again has a new id, and so new sources. What stood before the
# last few is forgotten, since nobody can read it any more; else a state would grow with every
# restart of a broker that keeps nothing.
TOPICS_KEPT: Final = 4


P = TypeVar("P", bound=StreamRecord)


def advance(applied: Mapping[str, int], records: Iterable[P]) -> tuple[dict[str, int], list[P]]:
    """`applied` (source → last offset) after these records, and those of them that it did not cover
    yet, in the order given.

    The records of one source must come in the order of their offsets, as a log gives them.
    """
    after = dict(applied)
    fresh = []
    for record in records:
        if record.offset > after.get(record.source, -1):
            after[record.source] = record.offset
            fresh.append(record)
    return newest_topics(after), fresh


def furthest(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """Both, each source with the higher offset; the other's come last, as those of the newest
    topics.
    """
    both = {source: offset for source, offset in one.items() if source not in other}
    both.update((source, max(offset, one.get(source, -1))) for source, offset in other.items())
    return newest_topics(both)


def newest_topics(applied: dict[str, int]) -> dict[str, int]:
    """The offsets without those of the oldest topics. Sources stand in the order in which they
    first appeared.
    """
    if len(applied) <= TOPICS_KEPT:
        return applied
    topics = list(dict.fromkeys(split_source(source)[0] for source in applied))
    dropped = set(topics[:-TOPICS_KEPT])
    if not dropped:
        return applied
    return {
        source: offset
        for source, offset in applied.items()
        if split_source(source)[0] not in dropped
    }
