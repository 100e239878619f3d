"""Which records a state already holds, so that a record read twice counts once."""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from slipstream.contracts.events import Interaction

#: A topic that is deleted and made again has a new id, and so new sources. What stood before the last few is forgotten, since
#: nobody can read it any more; else a state would grow with every restart of a broker that keeps nothing.
TOPICS_KEPT: Final = 4


class Placed(NamedTuple):
    """An interaction with its place in the stream: `source` is "<topic id>:<partition>", offsets grow within a source."""

    source: str
    offset: int
    interaction: Interaction


def advance(applied: Mapping[str, int], records: Iterable[Placed]) -> tuple[dict[str, int], list[Interaction]]:
    """The interactions that `applied` (source → last offset) does not cover yet, in the order given, and `applied` after them.

    The records of one source must come in the order of their offsets, as a log gives them.
    """
    after = dict(applied)
    fresh = []
    for source, offset, interaction in records:
        if offset > after.get(source, -1):
            after[source] = offset
            fresh.append(interaction)
    return _newest_topics(after), fresh


def _newest_topics(applied: dict[str, int]) -> dict[str, int]:
    """Sources stand in the order in which they first appeared; those of the oldest topics go."""
    if len(applied) <= TOPICS_KEPT:
        return applied
    topics = list(dict.fromkeys(source.rpartition(":")[0] for source in applied))
    dropped = set(topics[:-TOPICS_KEPT])
    if not dropped:
        return applied
    return {source: offset for source, offset in applied.items() if source.rpartition(":")[0] not in dropped}
