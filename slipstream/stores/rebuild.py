"""Replaces what the online store holds by what history says, beside the consumer that goes on
writing.

A state may hold records that history does not have yet. So a value is replaced only when every
record that it holds is among those that the new one was folded of (by source and offset), and
nobody has written it since it was looked at. Otherwise it is left as it is and named; who rebuilds
looks again when history has come further. The new state says which records it holds, so the
consumer goes on with the next one: none is lost, none counts twice.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from slipstream.chassis.settings import RedisSettings
from slipstream.contracts.times import now_ms
from slipstream.features.applied import furthest
from slipstream.features.item import ItemState
from slipstream.features.visitor import VisitorState
from slipstream.stores import layout
from slipstream.stores.connection import Call, Scripts, connect, translated
from slipstream.stores.keys import Keys
from slipstream.stores.layout import MergeMarker, TrendingState
from slipstream.stores.online import TRENDING_KEPT, Retention

_CHUNK: Final = 200

# Of "<topic id>:<partition>": the last offset of which history has the record; -1 when it has none.
LastOffset = Callable[[str], int]


class RebuiltVisitor(NamedTuple):
    """A user's state of history, the visitors who turned out to be the user, and when the last
    record arrived (ms).
    """

    user_id: str
    state: VisitorState
    members: tuple[str, ...]
    last_received: int


class RebuiltItem(NamedTuple):
    item_id: str
    state: ItemState
    last_received: int


@dataclass(slots=True)
class _Visit:
    """A user with all keys that are replaced together, as they were read."""

    rebuilt: RebuiltVisitor
    revisions: dict[str, bytes]
    present: VisitorState | None


class Rebuild:
    """One writer. Methods raise `StoreUnavailableError`; all can be asked again."""

    def __init__(
        self, settings: RedisSettings, namespace: str, retention: Retention, covered: LastOffset
    ) -> None:
        self._redis = connect(settings)
        self._scripts = Scripts(self._redis)
        self._keys, self._retention, self._covered = Keys(namespace), retention, covered

    def visitors(self, rebuilt: Sequence[RebuiltVisitor]) -> list[RebuiltVisitor]:
        """Write these users, and markers in the places of their members; those that had to be left
        as they are.
        """
        left: list[RebuiltVisitor] = []
        with translated():
            for start in range(0, len(rebuilt), _CHUNK):
                left += self._write_visitors(rebuilt[start : start + _CHUNK])
        return left

    def items(self, rebuilt: Sequence[RebuiltItem]) -> list[RebuiltItem]:
        """Write these items; those that had to be left as they are."""
        left: list[RebuiltItem] = []
        with translated():
            for start in range(0, len(rebuilt), _CHUNK):
                left += self._write_items(rebuilt[start : start + _CHUNK])
        return left

    def trending(self, masses: Mapping[str, float], state: TrendingState) -> bool:
        """Write the trending list; whether that could be done."""
        with translated():
            value = self._redis.get(self._keys.trending)
            present = layout.decode_trending(value) if value else TrendingState()
            if not self._covers(present.applied):
                return False
            after = replace(
                state,
                applied=furthest(present.applied, state.applied),
                newest=max(state.newest, present.newest),
            )
            arguments = [
                layout.revision_of(value),
                layout.encode_trending(after, layout.new_revision()),
                TRENDING_KEPT,
                1,
            ]
            for item_id, mass in masses.items():
                arguments += [item_id, repr(mass)]
            return bool(
                self._scripts.run(
                    "trending", [Call([self._keys.trending, self._keys.trending_scores], arguments)]
                )[0]
            )

    def trending_applied(self) -> dict[str, int]:
        """How far the consumer has come with each source: every record passes through the trending
        list's state.
        """
        with translated():
            value = self._redis.get(self._keys.trending)
            return layout.decode_trending(value).applied if value else {}

    def states(self, user_ids: Sequence[str]) -> list[VisitorState | None]:
        """The visitors' states as they stand; None for none, and for a visitor who is another."""
        with translated():
            values = (
                self._redis.mget([self._keys.visitor(user_id) for user_id in user_ids])
                if user_ids
                else []
            )
            known = [layout.decode_visitor_or_marker(value) if value else None for value in values]
            return [state if isinstance(state, VisitorState) else None for state in known]

    def hold(self, seconds: float) -> None:
        """Ask the consumers to apply nothing for so long, so that history comes to where they are.
        See `OnlineStore.held`.
        """
        with translated():
            self._redis.set(self._keys.hold, b"", px=max(1, int(seconds * 1000)))

    def release(self) -> None:
        with translated():
            self._redis.delete(self._keys.hold)

    def close(self) -> None:
        self._redis.close()

    def _write_visitors(self, rebuilt: Sequence[RebuiltVisitor]) -> list[RebuiltVisitor]:
        now = now_ms()
        living = [
            one
            for one in rebuilt
            if _ttl(self._retention.visitor_ttl_ms, one.last_received, now) > 0
        ]
        left: list[RebuiltVisitor] = []
        visits: list[_Visit] = []
        ids = [name for one in living for name in (one.user_id, *one.members)]
        values = iter(self._redis.mget([self._keys.visitor(name) for name in ids]) if ids else [])
        for one in living:
            found = {name: next(values) for name in (one.user_id, *one.members)}
            known = {
                name: layout.decode_visitor_or_marker(value) if value else None
                for name, value in found.items()
            }
            own = known[one.user_id]
            states = [
                state.state if isinstance(state, MergeMarker) else state for state in known.values()
            ]
            unknown = isinstance(own, VisitorState) and not own.merged.keys() <= set(
                one.members
            )  # linked since
            if (
                isinstance(own, MergeMarker)
                or unknown
                or not all(self._holds(state) for state in states if state is not None)
            ):
                left.append(one)
                continue
            visits.append(
                _Visit(one, {name: layout.revision_of(value) for name, value in found.items()}, own)
            )
        done = self._scripts.replace([self._visitor_call(visit, now) for visit in visits])
        # Only now the members: what comes for them until then is kept in their own states, and
        # found there.
        calls, whose = [], []
        for visit, ok in zip(visits, done, strict=True):
            if not ok:
                left.append(visit.rebuilt)
                continue
            marker = layout.encode_marker(MergeMarker(visit.rebuilt.user_id), layout.new_revision())
            for name in visit.rebuilt.members:
                calls.append(
                    self._call(
                        self._keys.visitor(name),
                        visit.revisions[name],
                        marker,
                        self._retention.visitor_ttl_ms,
                    )
                )
                whose.append(visit.rebuilt)
        lost = {
            one.user_id: one
            for one, ok in zip(whose, self._scripts.replace(calls), strict=True)
            if not ok
        }
        return left + list(lost.values())

    def _visitor_call(self, visit: _Visit, now_ms: int) -> Call:
        one, present = visit.rebuilt, visit.present or VisitorState()
        merged = dict(present.merged)
        for name, offsets in one.state.merged.items():
            merged[name] = furthest(merged.pop(name, {}), offsets)
        state = replace(
            one.state, applied=furthest(present.applied, one.state.applied), merged=merged
        )
        encoded = layout.encode_visitor(state, layout.new_revision())
        ttl_ms = _ttl(self._retention.visitor_ttl_ms, one.last_received, now_ms)
        return Call(
            [self._keys.visitor(one.user_id)], [visit.revisions[one.user_id], encoded, ttl_ms]
        )

    def _write_items(self, rebuilt: Sequence[RebuiltItem]) -> list[RebuiltItem]:
        now = now_ms()
        living = [
            one for one in rebuilt if _ttl(self._retention.item_ttl_ms, one.last_received, now) > 0
        ]
        values = (
            self._redis.mget([self._keys.item(one.item_id) for one in living]) if living else []
        )
        left, written, calls = [], [], []
        for one, value in zip(living, values, strict=True):
            present = layout.decode_item(value).applied if value else {}
            if not self._covers(present):
                left.append(one)
                continue
            state = replace(one.state, applied=furthest(present, one.state.applied))
            encoded = layout.encode_item(state, layout.new_revision())
            ttl_ms = _ttl(self._retention.item_ttl_ms, one.last_received, now)
            calls.append(
                self._call(self._keys.item(one.item_id), layout.revision_of(value), encoded, ttl_ms)
            )
            written.append(one)
        return left + [
            one for one, ok in zip(written, self._scripts.replace(calls), strict=True) if not ok
        ]

    def _holds(self, state: VisitorState) -> bool:
        return self._covers(state.applied) and all(
            self._covers(offsets) for offsets in state.merged.values()
        )

    def _covers(self, applied: Mapping[str, int]) -> bool:
        return all(offset <= self._covered(source) for source, offset in applied.items())

    def _call(self, key: str, revision: bytes, encoded: bytes, ttl_ms: int) -> Call:
        return Call([key], [revision, encoded, ttl_ms])


def _ttl(ttl_ms: int, last_received: int, now_ms: int) -> int:
    """What is left of a time to live that began when the last record arrived."""
    return min(ttl_ms, ttl_ms - (now_ms - last_received))
