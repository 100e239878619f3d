"""Who is who: the links between visitors, and what a user's state becomes when another visitor
turns out to be the user.

A link says that a visitor is a user. The first link of a visitor counts, a later one to somebody
else does not; one that would close a circle says nothing. The stream applies links as they come
(`slipstream.stores.visitors`); who reads history resolves ids by the same rule with `Identities`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

from slipstream.contracts.vocabulary import MAX_ID_BYTES, MERGED_INTO
from slipstream.features import visitor
from slipstream.features.applied import furthest
from slipstream.features.visitor import VisitorState

# Of so many visitors merged into one user it is kept up to which record each was taken in; the
# first ones go.
MERGED_KEPT: Final = 256


class Link(NamedTuple):
    """`visitor_id` is `user_id`, as told by the record at this place of `catalog.v1`, at
    `timestamp`.
    """

    visitor_id: str
    user_id: str
    topic_id: str
    offset: int
    timestamp: int


def named(attributes: Mapping[str, Any]) -> str | None:
    """Whom an identity record names as the user; None when it names nobody, and so says nothing."""
    user_id = attributes.get(MERGED_INTO)
    return (
        user_id if isinstance(user_id, str) and 0 < len(user_id.encode()) <= MAX_ID_BYTES else None
    )


class Identities:
    """Whose history each visitor's is, by the given links, in whatever order they come.

    Links of one visitor stand in one partition, so their offsets say which was first; of topics
    made anew, the older comes first. Between visitors (which matters only for circles) the time
    decides, where the stream took what it read first.
    """

    def __init__(self, links: Iterable[Link] = ()) -> None:
        known = list(links)
        begun: dict[str, int] = {}
        for link in known:
            begun[link.topic_id] = min(link.timestamp, begun.get(link.topic_id, link.timestamp))
        latest: dict[str, int] = {}
        told: list[tuple[int, int, Link]] = []
        for place, link in enumerate(
            sorted(known, key=lambda link: (begun[link.topic_id], link.topic_id, link.offset))
        ):
            latest[link.visitor_id] = max(link.timestamp, latest.get(link.visitor_id, 0))
            told.append((latest[link.visitor_id], place, link))
        self._to: dict[str, str] = {}
        for _, _, link in sorted(told):
            if link.visitor_id not in self._to and self.resolve(link.user_id) != link.visitor_id:
                self._to[link.visitor_id] = link.user_id

    def resolve(self, visitor_id: str) -> str:
        """The user whose history the visitor's is part of; the visitor itself when it was never
        linked.
        """
        while (further := self._to.get(visitor_id)) is not None:
            visitor_id = further
        return visitor_id

    def merged(self) -> dict[str, str]:
        """Every visitor whose history is another's, and whose."""
        return {visitor_id: self.resolve(visitor_id) for visitor_id in self._to}


def taken_in(state: VisitorState | None, visitor_id: str, other: VisitorState) -> VisitorState:
    """The state with the history of `visitor_id` in it: that of a visitor who did all that both
    did. Neither is changed.

    It goes on to judge the other's records by the other's offsets, and so those of the visitors
    that the other had taken in.
    """
    state = state or VisitorState()
    merged = {name: dict(offsets) for name, offsets in state.merged.items()}
    for name, offsets in ({visitor_id: other.applied} | other.merged).items():
        merged[name] = furthest(merged.pop(name, {}), offsets)
    while len(merged) > MERGED_KEPT:
        del merged[next(iter(merged))]
    return replace(visitor.join(state, other), applied=state.applied, merged=merged)


def has_taken_in(state: VisitorState | None, visitor_id: str, other: VisitorState) -> bool:
    """Whether `taken_in` has happened with this state of `visitor_id`: what it holds is said to be
    here.

    The name alone would not do: a visitor that was forgotten after its time to live can come again,
    and be linked again.
    """
    held = state.merged.get(visitor_id) if state is not None else None
    return held is not None and all(
        held.get(source, -1) >= offset for source, offset in other.applied.items()
    )
