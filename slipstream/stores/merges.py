"""Merges of visitors in Redis: a visitor becomes part of a user exactly once, despite crashes.

A visitor A who turns out to be the user U is merged in three steps. Each replaces one value if it
is unchanged:

1. A's state becomes a marker `MergeMarker(U, A's state)`. From now on no writer changes A's state,
   so it can't grow unseen.
2. U takes the state in and records that in `merged`. When U is a marker itself, this is done where
   its markers end.
3. A's marker loses the state.

A writer that comes upon a marker with a state goes on with step 2; `merged` says whether that has
happened. Later records of A are folded into U, judged by the offsets that `merged` has for A. Two
users that are merged into each other at the same moment make a circle of markers. The writer that
comes upon it gives the lowest id its state back.

A page's word alone makes a marker that keeps a copy of A's state for those who read A, and writers
treat it like any other.

On a cluster each step is settled before the next one, whoever did it: a node that lost the marker
alone would let A grow next to U.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, Literal

from slipstream.chassis.logging import get_logger
from slipstream.contracts.page_visitors import apart_id, has_apart
from slipstream.features.identity import has_taken_in, taken_in
from slipstream.features.visitor import VisitorState
from slipstream.stores.layout import LayoutError, MergeMarker
from slipstream.stores.visitor_values import StoredVisitor, VisitorValues, path_of, targets_of

log = get_logger(__name__)

# merged: it is now. known: it was before. other: the visitor is another user already. itself: the
# user is that visitor. refused: a page links one who has been a user. unreadable: a state can't be
# decoded.
LinkOutcome = Literal["merged", "known", "other", "itself", "refused", "unreadable"]
WITHOUT_EFFECT: Final = frozenset({"refused", "other", "itself"})


class Merges:
    """One writer's merges. Methods raise what Redis and its client raise."""

    def __init__(self, values: VisitorValues) -> None:
        self._values = values

    def link(
        self,
        visitor_id: str,
        user_id: str,
        *,
        only_anonymous: bool = False,
        is_user: bool = False,
        proven: bool = True,
    ) -> tuple[LinkOutcome, dict[str, VisitorState]]:
        """Merge the visitor into the user, unless it is another user already.

        Args:
            visitor_id: the visitor.
            user_id: the user.
            only_anonymous: refuse a visitor who has been a user.
            is_user: the visitor has been a user, by what the state does not hold.
            proven: whether readers of the visitor get the user's state from now on.

        Returns:
            The outcome, and the users' states that have changed.
        """
        try:
            while True:
                end, path = self.end(user_id)
                stored = self._values.read_one(visitor_id)
                if isinstance(stored.content, MergeMarker):
                    changed = self.finish(visitor_id)
                    end = self.end(user_id)[0]
                    outcome: LinkOutcome = "known" if self.end(visitor_id)[0] == end else "other"
                    return outcome, changed
                if visitor_id in path:
                    return "itself", {}
                state = stored.content
                if only_anonymous and (is_user or (state is not None and state.is_user)):
                    return "refused", {}
                # The user learns of a visitor without any history, too: from now on it is a user,
                # and the visitor is among those who are erased with it.
                whole = state or VisitorState()
                marker = MergeMarker(user_id, whole, None if proven else whole)
                if self._values.replace(visitor_id, stored.revision, marker):
                    return "merged", self.finish(visitor_id)
        except LayoutError as error:
            log.error(
                "a state can't be read; a link is left out",
                visitor=visitor_id,
                user=user_id,
                reason=str(error),
            )
            return "unreadable", {}

    def lead_apart(self, visitor_id: str, user_id: str) -> dict[str, VisitorState]:
        """Merge the visitor apart from this one into the user; returns the states that changed.

        The user's state does not name one without history: whoever is erased, it goes along.
        """
        apart = apart_id(visitor_id)
        while has_apart(visitor_id):
            stored = self._values.read_one(apart)
            if stored.content is not None:
                return self.link(apart, user_id)[1]
            if self._values.replace(apart, stored.revision, MergeMarker(user_id)):
                break
        return {}

    def are_done(self, links: Sequence[tuple[str, str, bool]]) -> list[bool]:
        """Whether each of these (visitor, user, proven) is certainly done, in one round trip."""
        movers = [[name, apart_id(name)] if proven else [name] for name, _, proven in links]
        stored = self._values.read([each for movers_of in movers for each in movers_of])
        settled = {
            (name, content.to)
            for name, (_, content) in stored.items()
            if isinstance(content, MergeMarker) and content.state is None
        }
        return [
            all((each, user_id) in settled for each in movers_of)
            for movers_of, (_, user_id, _) in zip(movers, links, strict=True)
        ]

    def locate(self, visitor_ids: Iterable[str]) -> tuple[dict[str, StoredVisitor], dict[str, str]]:
        """The contents of the visitors' keys, and the end of each visitor's markers.

        Merges on the way are finished. Visitors with an undecodable state are left out.
        """
        asked, blocked = list(visitor_ids), set[str]()
        while True:
            stored = self._values.read(asked)
            if not (further := targets_of(content for _, content in stored.values())):
                return stored, {visitor_id: visitor_id for visitor_id in stored}
            read = set(asked)
            while further := further - read:
                read |= further
                stored |= self._values.read(list(further))
                further = targets_of(content for _, content in stored.values())
            waiting = {
                visitor_id
                for visitor_id, (_, content) in stored.items()
                if isinstance(content, MergeMarker) and content.state is not None
            } - blocked
            for visitor_id in waiting:
                try:
                    self.finish(visitor_id)
                except LayoutError as error:
                    log.error(
                        "a state can't be read; a merge waits",
                        visitor=visitor_id,
                        reason=str(error),
                    )
                    blocked.add(visitor_id)
            if not waiting:
                contents = {visitor_id: content for visitor_id, (_, content) in stored.items()}
                paths = {
                    visitor_id: path_of(contents, visitor_id)
                    for visitor_id in asked
                    if visitor_id in stored
                }
                return stored, {
                    visitor_id: path[-1]
                    for visitor_id, path in paths.items()
                    if path and not blocked.intersection(path)
                }

    def end(self, visitor_id: str) -> tuple[str, list[str]]:
        """The end of the visitor's markers, and the path from the visitor to the end."""
        while True:
            path, stored = [visitor_id], {visitor_id: self._values.read_one(visitor_id)}
            while (
                isinstance(marker := stored[path[-1]].content, MergeMarker)
                and marker.to not in stored
            ):
                stored[marker.to] = self._values.read_one(marker.to)
                path.append(marker.to)
            if not isinstance(marker, MergeMarker):
                return path[-1], path
            self._open_circle({member: stored[member] for member in path[path.index(marker.to) :]})

    def finish(self, visitor_id: str) -> dict[str, VisitorState]:
        """Take the states in the visitor's markers in where they end; the changed states."""
        changed: dict[str, VisitorState] = {}
        while True:
            end, path = self.end(visitor_id)
            stored = {member: self._values.read_one(member) for member in path}
            waiting = None
            # From the end: the state of a marker names the visitors that were merged into it.
            for mover in reversed(path[:-1]):
                marker = stored[mover].content
                if isinstance(marker, MergeMarker) and marker.state is not None:
                    waiting = mover, marker.state, replace(marker, state=None)
                    break
            if waiting is None:
                return changed
            mover, theirs, settled = waiting
            root = stored[end]
            if isinstance(root.content, MergeMarker) or not all(
                isinstance(stored[member].content, MergeMarker) for member in path[:-1]
            ):
                continue
            if not has_taken_in(root.content, mover, theirs):
                state = taken_in(root.content, mover, theirs)
                self._values.settle()
                if not self._values.replace(end, root.revision, state):
                    continue
                changed[end] = state
            self._values.settle()
            self._values.replace(mover, stored[mover].revision, settled)

    def _open_circle(self, circle: Mapping[str, StoredVisitor]) -> None:
        """Give one of these markers its state back.

        All writers that see the circle choose the same marker. The marker that closed the circle
        still has its state, since there was no end that could take it in.
        """
        frozen = {
            visitor_id: (stored.revision, marker.state)
            for visitor_id, stored in circle.items()
            if isinstance(marker := stored.content, MergeMarker) and marker.state
        }
        lowest = min(frozen or circle)
        revision, state = frozen.get(lowest, (circle[lowest].revision, VisitorState()))
        log.warning(
            "visitors were merged in a circle; one stays", visitors=sorted(circle), stays=lowest
        )
        self._values.settle()
        self._values.replace(lowest, revision, state)
