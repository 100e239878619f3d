"""Visitors in Redis: interactions folded into their states, each at most once."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from slipstream.contracts.positions import StreamInteraction
from slipstream.features import covisits, visitor
from slipstream.features.applied import advance
from slipstream.features.covisits import Covisit
from slipstream.features.visitor import VisitorState
from slipstream.stores.layout import MergeMarker
from slipstream.stores.merges import Merges
from slipstream.stores.visitor_values import StoredVisitor, VisitorValues


@dataclass(slots=True)
class VisitorUpdate:
    """A visitor's state with new records in it, to be written in place of `revision`.

    `pairs` are the pairs that each of the records made, `markers` those of the visitors whose
    records are among them.
    """

    state: VisitorState
    revision: bytes
    records: list[StreamInteraction]
    pairs: list[list[Covisit]]
    markers: dict[str, StoredVisitor] = field(default_factory=dict)


class Visitors:
    """One writer's folding. Methods raise what Redis and its client raise."""

    def __init__(self, values: VisitorValues, merges: Merges) -> None:
        self._values, self._merges = values, merges

    def fold(self, groups: Mapping[str, list[StreamInteraction]]) -> dict[str, VisitorUpdate]:
        """The updates that these records make, by the key that holds the state.

        Only merges that were under way are written. The records of a state that can't be decoded
        are left out.

        Args:
            groups: records by visitor, those of one source in the order of their offsets.
        """
        stored, ends = self._merges.locate(groups)
        members: dict[str, list[str]] = {}
        for visitor_id, end in ends.items():
            members.setdefault(end, []).append(visitor_id)
        updates: dict[str, VisitorUpdate] = {}
        for end, visitor_ids in members.items():
            content = stored[end].content
            assert not isinstance(content, MergeMarker)  # noqa: S101
            before = content or VisitorState()
            fresh: list[StreamInteraction] = []
            applied, merged = before.applied, before.merged
            for visitor_id in visitor_ids:
                itself = visitor_id == end
                after, new = advance(
                    applied if itself else merged.get(visitor_id, {}), groups[visitor_id]
                )
                fresh += new
                if not new:
                    continue
                if itself:
                    applied = after
                else:
                    merged = merged | {visitor_id: after}
            if not fresh:
                continue
            events = [record.interaction for record in fresh]
            state = visitor.fold_all(before, events)
            state.applied, state.merged = applied, merged
            markers = {member: stored[member] for member in visitor_ids if member != end}
            updates[end] = VisitorUpdate(
                state, stored[end].revision, fresh, covisits.pairs(before, events), markers
            )
        return updates

    def write(self, updates: Mapping[str, VisitorUpdate]) -> list[str]:
        """Write the states; the keys that another writer changed first."""
        done = self._values.replace_all(
            {end: (update.revision, update.state) for end, update in updates.items()}
        )
        self._values.keep_markers(
            {end: update.markers for end, update in updates.items() if update.markers}
        )
        return [end for end, ok in zip(updates, done, strict=True) if not ok]
