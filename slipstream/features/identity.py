"""Identities: links from visitors to users, and a user's state after a visitor is merged into it.

A link says that a visitor is a user. A visitor's first link counts; a later one to somebody else
does not, nor one that would close a circle. The stream applies links as they come
(`slipstream.stores.visitor_values`); readers of history resolve ids by the same rule with
`Identities`.
A page's key is known to everyone, so it may link a visitor only who has not been a user. The stream
judges that when it applies the link, and keeps a refused one out of history.

Unless it is proven, a page's link gives the visitor's history to the user, and nothing back. What
pages send in the user's name counts for another visitor meanwhile (`apart_id`). A proven link is
two: that visitor becomes the user, too.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.page_visitors import apart_id, has_apart
from slipstream.contracts.positions import furthest
from slipstream.contracts.vocabulary import MAX_ID_BYTES, MERGED_INTO
from slipstream.features import visitor
from slipstream.features.visitor import VisitorState

# Most merged visitors with offsets that a user keeps; the first ones go.
MERGED_KEPT: Final = 256


class Link(NamedTuple):
    """Statement that `visitor_id` is `user_id`, by a record of `people.v1`.

    `timestamp` is the record's time in ms. `proven` is False for a page's word alone.
    """

    visitor_id: str
    user_id: str
    topic_id: str
    offset: int
    timestamp: int
    proven: bool = True


def links_of(link: Link) -> tuple[Link, ...]:
    """The links that one record makes: a proven one links the visitor apart, too."""
    if not (link.proven and has_apart(link.visitor_id)):
        return (link,)
    return link, link._replace(visitor_id=apart_id(link.visitor_id))


def is_proven(record: CatalogRecord) -> bool:
    """Whether an identity record is more than a page's word."""
    return record.proven or not record.by_browser


def visitors_apart(visitor_ids: Iterable[str]) -> list[str]:
    """The visitors apart from these."""
    return [apart_id(name) for name in visitor_ids if has_apart(name)]


def linked_user(attributes: Mapping[str, Any]) -> str | None:
    """The user that an identity record names; None for none, or for an invalid id."""
    user_id = attributes.get(MERGED_INTO)
    return (
        user_id if isinstance(user_id, str) and 0 < len(user_id.encode()) <= MAX_ID_BYTES else None
    )


class Identities:
    """Resolves visitors to users by links, in whatever order the links come.

    Links of one visitor stand in one partition, so their offsets say which was first; of recreated
    topics, the older comes first. Between visitors the time decides, which matters only for
    circles; the stream goes by the order of reading there.
    """

    def __init__(self, links: Iterable[Link] = ()) -> None:
        links = list(links)
        begun: dict[str, int] = {}
        for link in links:
            begun[link.topic_id] = min(link.timestamp, begun.get(link.topic_id, link.timestamp))
        latest: dict[str, int] = {}
        ordered: list[tuple[int, int, Link]] = []
        for number, link in enumerate(
            sorted(links, key=lambda link: (begun[link.topic_id], link.topic_id, link.offset))
        ):
            latest[link.visitor_id] = max(link.timestamp, latest.get(link.visitor_id, 0))
            ordered.append((latest[link.visitor_id], number, link))
        self._to: dict[str, str] = {}
        # Visitors who are users by the word of a page.
        self.unproven = set[str]()
        for _, _, link in sorted(ordered):
            if link.visitor_id not in self._to and self.resolve(link.user_id) != link.visitor_id:
                self._to[link.visitor_id] = link.user_id
                if not link.proven:
                    self.unproven.add(link.visitor_id)

    def resolve(self, visitor_id: str) -> str:
        """The user that the visitor is; the visitor itself when it was never linked."""
        while (further := self._to.get(visitor_id)) is not None:
            visitor_id = further
        return visitor_id

    def merged(self) -> dict[str, str]:
        """The user of each linked visitor."""
        return {visitor_id: self.resolve(visitor_id) for visitor_id in self._to}

    def ids_of(self, visitor_id: str) -> frozenset[str]:
        """All ids of the visitor's user, the visitor's own among them.

        They include the visitors that are kept apart from these and belong to no other user.
        """
        end = self.resolve(visitor_id)
        names = {visitor_id, end, *(name for name, user in self.merged().items() if user == end)}
        return frozenset(names | {each for each in visitors_apart(names) if each not in self._to})

    def ids_proven(self, visitor_id: str) -> frozenset[str]:
        """All ids with a history that a client with this visitor's id may see, or have erased."""
        proven = apart_id(visitor_id) if visitor_id in self.unproven else visitor_id
        return self.ids_of(proven) | {visitor_id}


def taken_in(state: VisitorState | None, visitor_id: str, other: VisitorState) -> VisitorState:
    """The state with the history of `visitor_id` in it, as if one visitor had done all of it.

    The other's offsets are kept in `merged`, and so are those of the visitors merged into it: later
    records of these visitors are judged by them. Neither state is changed.
    """
    state = state or VisitorState()
    merged = {name: dict(offsets) for name, offsets in state.merged.items()}
    for name, offsets in ({visitor_id: other.applied} | other.merged).items():
        merged[name] = furthest(merged.pop(name, {}), offsets)
    while len(merged) > MERGED_KEPT:
        del merged[next(iter(merged))]
    return replace(visitor.join(state, other), applied=state.applied, merged=merged, is_user=True)


def emptied(state: VisitorState) -> VisitorState:
    """The state without any history, and what it knows of offsets and of being a user."""
    return VisitorState(applied=state.applied, merged=state.merged, is_user=state.is_user)


def has_taken_in(state: VisitorState | None, visitor_id: str, other: VisitorState) -> bool:
    """Whether the state holds all records of this state of `visitor_id` by `taken_in`.

    The name alone does not tell: a visitor that was forgotten after its time to live can come
    again, and be linked again.
    """
    held = state.merged.get(visitor_id) if state is not None else None
    return held is not None and all(
        held.get(source, -1) >= offset for source, offset in other.applied.items()
    )
