"""Interactions folded into Redis: visitors, items with their pairs, and the lists of demand.

Each record counts at most once in each of the three, since every state says which records it holds.
The lists are the items with the most decayed weight of events, now and by window; they share one
state with the list of active visitors (docs/adr/0053), into which ids come by these records alone.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from slipstream.chassis.logging import get_logger
from slipstream.contracts.events import Interaction
from slipstream.contracts.positions import StreamInteraction, advance
from slipstream.contracts.vocabulary import UNLEARNED_TTL_MS
from slipstream.features import decay, item, visitor
from slipstream.features.decay import POPULAR_WINDOWS
from slipstream.features.visitor import Covisit, VisitorState
from slipstream.stores import layout
from slipstream.stores.connection import Call, Scripts
from slipstream.stores.layout import Keys, MergeMarker, StateCache, TrendingState
from slipstream.stores.visitor_values import Merges, StoredVisitor, VisitorValues


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
        are left out. Records of one source are in the order of their offsets.
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
                state, stored[end].revision, fresh, visitor.pairs(before, events), markers
            )
        return updates

    def write(self, updates: Mapping[str, VisitorUpdate]) -> list[str]:
        """Write the states; the keys that another writer changed first."""
        done = self._values.replace_all(
            {end: (update.revision, update.state) for end, update in updates.items()},
            {
                end
                for end, update in updates.items()
                if all(record.interaction.unlearned for record in update.records)
            },
        )
        self._values.keep_markers(
            {end: update.markers for end, update in updates.items() if update.markers}
        )
        return [end for end, ok in zip(updates, done, strict=True) if not ok]


log = get_logger(__name__)

# Recent items that need not be decoded when they are read again, of about 4 KB each.
_REMEMBERED: Final = 10_000


class ItemContribution(NamedTuple):
    """A record's share in an item's state: the event if it is on the item, and pairs."""

    source: str
    offset: int
    event: Interaction | None
    pairs: list[Covisit]


def contributions(
    records: Iterable[StreamInteraction], pairs: Mapping[tuple[str, int], list[Covisit]]
) -> dict[str, list[ItemContribution]]:
    """The shares of these records by item, in the order of the records, at most one each.

    `pairs` are those that the records made, by source and offset.
    """
    groups: defaultdict[str, list[ItemContribution]] = defaultdict(list)
    for source, offset, event in records:
        item_id = event.item_id
        if item_id is None:
            continue
        of_item: list[Covisit] = []
        groups[item_id].append(ItemContribution(source, offset, event, of_item))
        for pair in pairs.get((source, offset), ()):
            if pair.item_id == item_id:
                of_item.append(pair)
            else:
                groups[pair.item_id].append(ItemContribution(source, offset, None, [pair]))
    return groups


class Items:
    """One writer's folding. Methods raise what Redis and its client raise."""

    def __init__(self, client: Any, scripts: Scripts, keys: Keys, ttl_ms: int) -> None:
        self._redis, self._scripts, self._keys, self._ttl_ms = client, scripts, keys, ttl_ms
        self._cache = StateCache(layout.decode_item, _REMEMBERED)

    def fold(self, groups: Mapping[str, list[ItemContribution]]) -> None:
        """Fold shares by item into the states; where another writer is faster, fold again.

        The shares of a state that can't be decoded are left out.
        """
        pending = list(groups)
        while pending:
            keys = [self._keys.item(item_id) for item_id in pending]
            values = self._redis.mget(keys)
            calls, item_ids = list[Call](), list[str]()
            for item_id, key, value in zip(pending, keys, values, strict=True):
                try:
                    state = self._cache.state(key, value) if value else None
                except layout.LayoutError as error:
                    log.error(
                        "a state can't be read; its records are left out",
                        item=item_id,
                        reason=str(error),
                    )
                    continue
                applied, fresh = advance(state.applied if state else {}, groups[item_id])
                if not fresh:
                    continue
                events = [share.event for share in fresh if share.event is not None]
                state = item.fold_all(
                    state, events, [pair for share in fresh for pair in share.pairs]
                )
                state.applied = applied
                revision = layout.new_revision()
                arguments: list[Any] = [
                    layout.revision_of(value),
                    layout.encode_item(state, revision),
                    self._ttl_ms,
                ]
                if not state.neighbours and all(event.unlearned for event in events):
                    arguments[2:] = [min(UNLEARNED_TTL_MS, self._ttl_ms), 1]
                calls.append(Call([key], arguments))
                self._cache.remember(key, revision, state)
                item_ids.append(item_id)
            done = self._scripts.replace(calls)
            pending = [item_id for item_id, ok in zip(item_ids, done, strict=True) if not ok]


# Items in each list, the heaviest; and active visitors, the latest.
TRENDING_KEPT: Final = 10_000


class Activity(NamedTuple):
    """Visitors with the time of their newest event (ms), and for how long one counts as active."""

    newest: Mapping[str, int]
    ttl_ms: int


_NOBODY: Final = Activity({}, 1)


def trending_call(
    keys: Keys,
    revision: bytes,
    state: TrendingState,
    masses: Iterable[tuple[str, Sequence[float | None]]],
    *,
    restarted: int,
    active: Activity = _NOBODY,
) -> Call:
    """A run of `trending.lua`, which adds masses if the state is unchanged.

    Args:
        revision: the revision of the state that was read; empty for none.
        masses: the masses to add, by item, in the order of `decay.half_lives`; None for a list
            that the item is not in.
        restarted: the number of lists with scores to drop, from the trending list on.
        active: the visitors who were active, in addition to those that are known.
    """
    arguments: list[Any] = [
        revision,
        layout.encode_trending(state, layout.new_revision()),
        TRENDING_KEPT,
        restarted,
        state.newest - active.ttl_ms,
        active.ttl_ms,
        len(active.newest),
    ]
    for visitor_id, time_ms in active.newest.items():
        arguments += (time_ms, visitor_id)
    for item_id, of_lists in masses:
        arguments += [item_id, *("" if mass is None else repr(mass) for mass in of_lists)]
    scores = [keys.demand_scores(window) for window in ("", *POPULAR_WINDOWS)]
    return Call([keys.trending, keys.active_visitors, *scores], arguments)


class TrendingList:
    """The lists, for one writer. Methods raise what Redis and its client raise. A visitor counts as
    active for `active_ms` after the newest event.
    """

    def __init__(
        self, client: Any, scripts: Scripts, keys: Keys, half_life_ms: float, active_ms: int
    ) -> None:
        self._redis, self._scripts, self._keys = client, scripts, keys
        self._half_life_ms, self._active_ms = half_life_ms, active_ms

    def add(self, records: Sequence[StreamInteraction]) -> None:
        """Add the weights of these records, each at most once, and note their visitors as active.

        With another half-life than before, the trending list starts over. Nothing is added to a
        state that can't be decoded.
        """
        half_lives = decay.half_lives(self._half_life_ms)
        while records:
            value = self._redis.get(self._keys.trending)
            try:
                state = (
                    layout.decode_trending(value)
                    if value
                    else TrendingState(half_life_ms=self._half_life_ms)
                )
            except layout.LayoutError as error:
                log.error(
                    "the trending state can't be read; records are left out", reason=str(error)
                )
                return
            applied, fresh = advance(state.applied, records)
            if not fresh:
                return
            events = [record.interaction for record in fresh]
            masses: dict[str, Sequence[float] | None] = {}
            latest: dict[str, int] = {}
            for event in events:
                if event.unlearned:
                    continue
                latest[event.user_id] = max(event.timestamp, latest.get(event.user_id, 0))
                if event.item_id is not None:
                    masses[event.item_id] = decay.add_event(
                        masses.get(event.item_id), event, half_lives
                    )
            newest = max(state.newest, max(event.timestamp for event in events))
            call = trending_call(
                self._keys,
                layout.revision_of(value),
                TrendingState(applied, newest, self._half_life_ms),
                ((item_id, mass) for item_id, mass in masses.items() if mass is not None),
                restarted=int(state.half_life_ms != self._half_life_ms),
                active=Activity(latest, self._active_ms),
            )
            if self._scripts.run("trending", [call])[0]:
                return
            self._scripts.lost_races += 1

    def top(self, n: int, window: str = "") -> list[tuple[str, float]]:
        """The `n` heaviest items, highest first, with their weight at the newest event.

        An empty window stands for the trending list.
        """
        if n <= 0:
            return []
        key = self._keys.demand_scores(window)
        scores = self._redis.zrevrange(key, 0, n - 1, withscores=True)
        return layout.trending_items(scores, self._redis.get(self._keys.trending), window)

    def forget(self, visitor_ids: Sequence[str]) -> None:
        """Take visitors out of the active ones. Those who do something come in again."""
        if visitor_ids:
            self._redis.zrem(self._keys.active_visitors, *visitor_ids)

    def watermark(self) -> int:
        """The newest event time, in ms; 0 when there is none."""
        value = self._redis.get(self._keys.trending)
        return layout.decode_trending(value).newest if value else 0
