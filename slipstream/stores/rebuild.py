"""Rebuild of the online store from history, while the consumer goes on writing.

A state may hold records that history does not have yet. So a value is replaced only when all its
records are among those of the new state (by source and offset), and no writer has changed it since
it was read. Otherwise it is left and returned, to be tried again when history has more records. The
new state says which records it holds, so the consumer goes on with the next record: none is lost,
and none counts twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from slipstream.chassis.settings import RedisSettings
from slipstream.contracts.positions import furthest
from slipstream.contracts.times import now_ms
from slipstream.features import history
from slipstream.features.decay import POPULAR_WINDOWS
from slipstream.features.history import StreamCovisit
from slipstream.features.item import ItemState
from slipstream.features.visitor import VisitorState
from slipstream.stores import layout
from slipstream.stores.connection import Call, Scripts, connect, translated
from slipstream.stores.erasing import LastOffset as LastOffset
from slipstream.stores.folding import trending_call
from slipstream.stores.layout import Keys, MergeMarker, TrendingState
from slipstream.stores.online import Retention
from slipstream.stores.visitor_values import Content

_CHUNK: Final = 200


class RebuiltVisitor(NamedTuple):
    """A user's state by history, the visitors merged into it, and the last receipt (ms).

    `unproven` are those of the members who are this user by a page's word alone.
    """

    user_id: str
    state: VisitorState
    members: tuple[str, ...]
    last_received: int
    unproven: frozenset[str] = frozenset()


class RebuiltItem(NamedTuple):
    """An item's state by history, and the last receipt of a record (ms)."""

    item_id: str
    state: ItemState
    last_received: int


@dataclass(slots=True)
class _PendingVisitor:
    """A user to write, with the revisions of its keys and its state as they were read."""

    rebuilt: RebuiltVisitor
    revisions: dict[str, bytes]
    contents: dict[str, Content]
    present: VisitorState | None


class Rebuild:
    """Writes states of history, which are settled when a method returns.

    Methods raise `StoreUnavailableError`, and can all be repeated.
    """

    def __init__(
        self, settings: RedisSettings, namespace: str, retention: Retention, covered: LastOffset
    ) -> None:
        self._redis = connect(settings)
        self._keys, self._retention, self._covered = Keys(namespace), retention, covered
        self._scripts = Scripts(self._redis, self._keys)

    def visitors(self, rebuilt: Sequence[RebuiltVisitor]) -> list[RebuiltVisitor]:
        """Write these users, and markers for their members; returns those that had to be left."""
        left: list[RebuiltVisitor] = []
        with translated():
            for start in range(0, len(rebuilt), _CHUNK):
                left += self._write_visitors(rebuilt[start : start + _CHUNK])
            self._scripts.settle()
        return left

    def items(self, rebuilt: Sequence[RebuiltItem]) -> list[RebuiltItem]:
        """Write these items; returns those that had to be left."""
        left: list[RebuiltItem] = []
        with translated():
            for start in range(0, len(rebuilt), _CHUNK):
                left += self._write_items(rebuilt[start : start + _CHUNK])
            self._scripts.settle()
        return left

    def add_pairs(self, pairs: Mapping[str, Sequence[StreamCovisit]]) -> None:
        """Fold pairs into the states of their items, as they stand; call it once for each pair."""
        left = list(pairs)
        with translated():
            while left:
                values = self._redis.mget([self._keys.item(item_id) for item_id in left])
                calls = [
                    self._item_call(
                        item_id,
                        value,
                        history.item_state((), pairs[item_id], layout.decode_item(value)),
                        self._retention.item_ttl_ms,
                    )
                    for item_id, value in zip(left, values, strict=True)
                    if value
                ]
                known = [item_id for item_id, value in zip(left, values, strict=True) if value]
                # One that a writer has changed meanwhile is read again.
                done = self._scripts.replace(calls)
                left = [item_id for item_id, ok in zip(known, done, strict=True) if not ok]
            self._scripts.settle()

    def trending(self, masses: Mapping[str, Sequence[float | None]], state: TrendingState) -> bool:
        """Write the lists of demand, masses by item and list; whether that could be done."""
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
            call = trending_call(
                self._keys,
                layout.revision_of(value),
                after,
                masses.items(),
                restarted=1 + len(POPULAR_WINDOWS),
            )
            done = bool(self._scripts.run("trending", [call])[0])
            self._scripts.settle()
            return done

    def trending_applied(self) -> dict[str, int]:
        """The consumer's last offset by source: the trending list's state sees every record."""
        with translated():
            value = self._redis.get(self._keys.trending)
            return layout.decode_trending(value).applied if value else {}

    def states(self, user_ids: Sequence[str]) -> list[VisitorState | None]:
        """The visitors' states as they stand; None for none, and for a merged visitor."""
        with translated():
            values = (
                self._redis.mget([self._keys.visitor(user_id) for user_id in user_ids])
                if user_ids
                else []
            )
            contents = [
                layout.decode_visitor_or_marker(value) if value else None for value in values
            ]
            return [content if isinstance(content, VisitorState) else None for content in contents]

    def hold(self, seconds: float) -> None:
        """Ask the consumers to apply nothing for `seconds`, so that history catches up with them.

        They look at `OnlineStore.held`.
        """
        with translated():
            self._redis.set(self._keys.hold, b"", px=max(1, int(seconds * 1000)))

    def release(self) -> None:
        """Let the consumers go on."""
        with translated():
            self._redis.delete(self._keys.hold)

    def close(self) -> None:
        self._redis.close()

    def _write_visitors(self, rebuilt: Sequence[RebuiltVisitor]) -> list[RebuiltVisitor]:
        now = now_ms()
        living = [
            user
            for user in rebuilt
            if _ttl(self._retention.visitor_ttl_ms, user.last_received, now) > 0
        ]
        left: list[RebuiltVisitor] = []
        pending: list[_PendingVisitor] = []
        ids = [name for user in living for name in (user.user_id, *user.members)]
        values = iter(self._redis.mget([self._keys.visitor(name) for name in ids]) if ids else [])
        for user in living:
            stored = {name: next(values) for name in (user.user_id, *user.members)}
            contents: dict[str, Content] = {
                name: layout.decode_visitor_or_marker(value) if value else None
                for name, value in stored.items()
            }
            present = contents[user.user_id]
            states = [
                content.state if isinstance(content, MergeMarker) else content
                for content in contents.values()
            ]
            if (
                isinstance(present, MergeMarker)
                # a visitor was linked since
                or (present is not None and not present.merged.keys() <= set(user.members))
                or not all(self._holds(state) for state in states if state is not None)
            ):
                left.append(user)
                continue
            revisions = {name: layout.revision_of(value) for name, value in stored.items()}
            pending.append(_PendingVisitor(user, revisions, contents, present))
        done = self._scripts.replace([self._visitor_call(each, now) for each in pending])
        # The members come last. Until then their records are folded into their own states. The
        # revisions of these change, so the marker is refused. Their states are in the user's, which
        # has to stay.
        self._scripts.settle()
        calls, users = [], []
        for each, ok in zip(pending, done, strict=True):
            if not ok:
                left.append(each.rebuilt)
                continue
            ttl_ms = self._retention.visitor_ttl_ms
            for name in each.rebuilt.members:
                marker = MergeMarker(each.rebuilt.user_id, own=_own(each, name))
                encoded = layout.encode_marker(marker, layout.new_revision())
                key = self._keys.visitor(name)
                calls.append(self._call(key, each.revisions[name], encoded, ttl_ms))
                users.append(each.rebuilt)
        lost = {
            user.user_id: user
            for user, ok in zip(users, self._scripts.replace(calls), strict=True)
            if not ok
        }
        return left + list(lost.values())

    def _visitor_call(self, pending: _PendingVisitor, now_ms: int) -> Call:
        user, present = pending.rebuilt, pending.present or VisitorState()
        merged = dict(present.merged)
        for name, offsets in user.state.merged.items():
            merged[name] = furthest(merged.pop(name, {}), offsets)
        state = replace(
            user.state,
            applied=furthest(present.applied, user.state.applied),
            merged=merged,
            is_user=user.state.is_user or present.is_user,
        )
        encoded = layout.encode_visitor(state, layout.new_revision())
        ttl_ms = _ttl(self._retention.visitor_ttl_ms, user.last_received, now_ms)
        revision = pending.revisions[user.user_id]
        return self._call(self._keys.visitor(user.user_id), revision, encoded, ttl_ms)

    def _write_items(self, rebuilt: Sequence[RebuiltItem]) -> list[RebuiltItem]:
        now = now_ms()
        living = [
            each
            for each in rebuilt
            if _ttl(self._retention.item_ttl_ms, each.last_received, now) > 0
        ]
        values = (
            self._redis.mget([self._keys.item(each.item_id) for each in living]) if living else []
        )
        left, written, calls = [], [], []
        for each, value in zip(living, values, strict=True):
            present = layout.decode_item(value).applied if value else {}
            if not self._covers(present):
                left.append(each)
                continue
            state = replace(each.state, applied=furthest(present, each.state.applied))
            ttl_ms = _ttl(self._retention.item_ttl_ms, each.last_received, now)
            calls.append(self._item_call(each.item_id, value, state, ttl_ms))
            written.append(each)
        return left + [
            each for each, ok in zip(written, self._scripts.replace(calls), strict=True) if not ok
        ]

    def _item_call(self, item_id: str, before: bytes | None, state: ItemState, ttl_ms: int) -> Call:
        encoded = layout.encode_item(state, layout.new_revision())
        return self._call(self._keys.item(item_id), layout.revision_of(before), encoded, ttl_ms)

    def _holds(self, state: VisitorState) -> bool:
        return self._covers(state.applied) and all(
            self._covers(offsets) for offsets in state.merged.values()
        )

    def _covers(self, applied: Mapping[str, int]) -> bool:
        return all(offset <= self._covered(source) for source, offset in applied.items())

    def _call(self, key: str, revision: bytes, encoded: bytes, ttl_ms: int) -> Call:
        return Call([key], [revision, encoded, ttl_ms])


def _own(pending: _PendingVisitor, visitor_id: str) -> VisitorState | None:
    """The history that a page's marker keeps for readers: what Redis has of it."""
    if visitor_id not in pending.rebuilt.unproven:
        return None
    content = pending.contents[visitor_id]
    if isinstance(content, MergeMarker):
        return content.own or content.state or VisitorState()
    return content or VisitorState()


def _ttl(ttl_ms: int, last_received: int, now_ms: int) -> int:
    """The rest of a time to live that began with the last receipt, in ms."""
    return min(ttl_ms, ttl_ms - (now_ms - last_received))
