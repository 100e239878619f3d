"""Erasure of visitors in Redis: what came before a cut is dropped, whenever it is read.

A user's state is folded from the events of all its members, so it can't be divided. It is dropped
whole, each member becomes a visitor of its own again, and each keeps the ends of the cut as offsets
that it holds already. So an event from before the cut changes nothing when it is read late. Events
from behind the cut that the dropped state held come back from the lake (`restore`), where rows have
positions.

Each key remembers the record that erased it, so that reading the record again drops nothing of
what came after.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from slipstream.chassis.logging import get_logger
from slipstream.contracts.positions import Cut, Position, StreamCatalogRecord, furthest
from slipstream.contracts.topics import RECOMMENDATIONS
from slipstream.features.identity import emptied, visitors_apart
from slipstream.features.visitor import VisitorState
from slipstream.stores.catalog_store import CatalogEntries
from slipstream.stores.connection import translated
from slipstream.stores.folding import TrendingList
from slipstream.stores.layout import LayoutError, MergeMarker
from slipstream.stores.visitor_values import Merges, VisitorValues

log = get_logger(__name__)

# Maps a source's name to the last offset that history has; -1 for none.
LastOffset = Callable[[str], int]


class VisitorErasures:
    """One writer's erasures. Methods raise `StoreUnavailableError`, and can all be repeated."""

    def __init__(
        self,
        values: VisitorValues,
        merges: Merges,
        catalog: CatalogEntries,
        trending: TrendingList,
    ) -> None:
        self._values, self._merges, self._catalog = values, merges, catalog
        self._trending = trending

    @translated()
    def erase(self, record: StreamCatalogRecord) -> list[str]:
        """Erase a user and its members up to the record's cut; returns all their ids."""
        source, offset, entry = record
        return self._drop_all(entry.entity_id, Position(source, offset), _ends(entry.cut))

    @translated()
    def take_link(self, visitor_id: str, user_id: str, link: Position) -> bool:
        """Whether a link is from before an erasure of its visitor or of its user.

        Either's erasure takes the other, too, with those who are the same user by now. Should it
        take too many, the pass over the lake puts them back.
        """
        erased = self._catalog.erased_before([visitor_id, user_id])
        late = {
            name: ends for name, ends in erased.items() if link.offset < ends.get(link.source, 0)
        }
        if not late:
            return False
        if self.members(visitor_id)[-1] == visitor_id:  # Else it was another user before.
            if user_id in late:
                self._drop_all(visitor_id, link, late[user_id])
            if visitor_id in late:
                self._drop_all(user_id, link, late[visitor_id])
        return True

    @translated()
    def erase_entries(self, visitor_ids: Collection[str], cut: Cut) -> None:
        """Erase the catalogue entries of these visitors that stand before a cut."""
        self._catalog.erase(sorted(visitor_ids), _ends(cut))

    @translated()
    def members(self, user_id: str) -> list[str]:
        """The visitors that are this user now; the one that holds the state is the last."""
        try:
            self._merges.finish(user_id)
            end, path = self._merges.end(user_id)
            state = self._values.read_one(end).content
        except LayoutError as error:
            log.error("a state that is to be erased can't be read", reason=str(error))
            return [user_id]
        merged = [*state.merged] if isinstance(state, VisitorState) else []
        # A state may still name visitors that were erased since, and are others now.
        stored = self._values.read(merged)
        elsewhere = {
            name
            for name, (_, each) in stored.items()
            if isinstance(each, VisitorState)
            or (
                isinstance(each, MergeMarker)
                and each.to != end
                and self._merges.end(name)[0] != end
            )
        }
        others = dict.fromkeys([*path, *(name for name in merged if name not in elsewhere)])
        others.pop(end)
        return [*others, end]

    @translated()
    def merged_among(self, visitor_ids: Collection[str]) -> list[str]:
        """Those of these visitors that are part of another one now."""
        stored = self._values.read(sorted(visitor_ids))
        return [name for name, (_, content) in stored.items() if isinstance(content, MergeMarker)]

    @translated()
    def separate(self, visitor_id: str) -> None:
        """Make a merged visitor one of its own, of which nothing is known.

        Nor is anything known of the user that it was merged into, until both are restored.
        """
        while True:
            self._merges.finish(visitor_id)
            end, path = self._merges.end(visitor_id)
            stored, marker = self._values.read_one(end), self._values.read_one(visitor_id)
            if len(path) == 1:
                return
            if isinstance(stored.content, MergeMarker) or not isinstance(
                marker.content, MergeMarker
            ):
                continue
            state = stored.content or VisitorState()
            merged = {name: held for name, held in state.merged.items() if name != visitor_id}
            rest = replace(emptied(state), merged=merged)
            own = VisitorState(applied=state.merged.get(visitor_id, {}))
            if self._values.replace(end, stored.revision, rest):
                self._values.settle()
                self._values.replace(visitor_id, marker.revision, own)

    @translated()
    def settle(self) -> None:
        """Return when what was written so far stays, whichever node is lost (`Scripts.settle`)."""
        self._values.settle()

    @translated()
    def forget(self, visitor_ids: Sequence[str]) -> None:
        """Delete the keys that hold nothing but offsets: nothing older can be read any more.

        Visitors without events of their own are active no more: an event from before the cut may
        have said so meanwhile.
        """
        stored = self._values.read(visitor_ids)
        without_events = {
            visitor_id: each
            for visitor_id, each in stored.items()
            if not (isinstance(each.content, VisitorState) and each.content.counts)
        }
        self._trending.forget([*without_events])
        self._values.delete_unchanged(
            {
                visitor_id: revision
                for visitor_id, (revision, content) in without_events.items()
                if isinstance(content, VisitorState) and not content.merged
            }
        )
        self._catalog.forget_erasures(visitor_ids)

    @translated()
    def restore(
        self, members: Sequence[str], state: VisitorState, covered: LastOffset
    ) -> bool | None:
        """Put events back that a dropped state held, from behind the cut.

        Args:
            covered: the last offset of a source that the lake has.

        Returns:
            Whether the state in Redis is as it should be now; False when a writer was faster, and
            None when Redis holds records that the lake does not have yet.
        """
        visitor_id = members[-1]
        stored = self._values.read_one(visitor_id)
        present = stored.content or VisitorState()
        if isinstance(present, MergeMarker):
            return False
        if (present.counts, present.sequence) == (state.counts, state.sequence) and (
            present.merged.keys() <= set(members)
        ):
            return True
        offsets = [present.applied, *present.merged.values()]
        if any(offset > covered(source) for each in offsets for source, offset in each.items()):
            return None
        merged = {
            name: furthest(state.merged.get(name, {}), each)
            for name, each in present.merged.items()
            if name in members
        }
        whole = replace(
            state,
            applied=furthest(state.applied, present.applied),
            merged={**state.merged, **merged},
            is_user=state.is_user or present.is_user,
        )
        return self._values.replace(visitor_id, stored.revision, whole)

    def _drop_all(self, user_id: str, record: Position, ends: Mapping[str, int]) -> list[str]:
        """Drop the entries and states of a user and its members, once for each record. Returns all
        their ids. The user is last, and so tells that all were dropped.
        """
        members = self.members(user_id)
        if self._has(members[-1], user_id, record):
            return members
        # The entries come first: they tell late links and entries of the erasure.
        self._catalog.erase(members, ends)
        apart = self._apart(members)
        self._trending.forget([*apart, *members])
        erased = self._catalog.erased_before(members)
        for visitor_id in apart:
            while not self._drop(visitor_id, record, ends):
                pass
        # The state's holder comes after those whom only it names, and the user after the holder,
        # whom only the user's marker names.
        for visitor_id in [*(name for name in members if name != user_id), user_id]:
            if visitor_id in (members[-1], user_id):
                self._values.settle()
            while not self._drop(visitor_id, record, erased.get(visitor_id, ends)):
                pass
        return members

    def _apart(self, members: Sequence[str]) -> list[str]:
        """The visitors kept apart from these that belong to no other user; they may not exist."""
        apart = visitors_apart(members)
        stored = self._values.read(apart)
        return [
            name
            for name in apart
            if name in stored
            and (
                not isinstance(stored[name].content, MergeMarker)
                or self._merges.end(name)[0] == members[-1]
            )
        ]

    def _has(self, holder: str, visitor_id: str, record: Position) -> bool:
        """Whether a visitor was dropped for a record, or for one behind it."""
        try:
            state = self._values.read_one(holder).content
        except LayoutError:
            return False
        if not isinstance(state, VisitorState):
            return False
        offsets = state.applied if holder == visitor_id else state.merged.get(visitor_id, {})
        return offsets.get(record.source, -1) >= record.offset

    def _drop(self, visitor_id: str, record: Position, ends: Mapping[str, int]) -> bool:
        """Drop one key's state, which then holds what stands before `ends`; False when another
        writer was faster.
        """
        try:
            revision, content = self._values.read_one(visitor_id)
        except LayoutError:
            self._values.delete(visitor_id)
            return False
        if isinstance(content, VisitorState) and all(
            offsets.get(record.source, -1) >= record.offset
            for offsets in (content.applied, *content.merged.values())
        ):
            return True
        held = {source: end - 1 for source, end in ends.items() if end > 0}
        after = furthest(held, {record.source: record.offset})
        # A page may not take the erased user's name while the erasure waits.
        is_user = isinstance(content, MergeMarker) or (content is not None and content.is_user)
        return self._values.replace(
            visitor_id, revision, VisitorState(applied=after, is_user=is_user)
        )


def _ends(cut: Cut) -> dict[str, int]:
    """The ends of the sources with records that change something online."""
    return {
        source: end
        for topic, ends in cut.items()
        if topic != RECOMMENDATIONS.name
        for source, end in ends.items()
    }
