"""Lists of demand in Redis: the items with the most decayed weight of events, now and by window.

The trending list and those of popular items share one state, which says which records they hold.
The list of active visitors shares it, too (docs/adr/0053): ids come into it by these records alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from slipstream.chassis.logging import get_logger
from slipstream.contracts.positions import StreamInteraction
from slipstream.features import demand
from slipstream.features.applied import advance
from slipstream.features.demand import POPULAR_WINDOWS
from slipstream.stores import layout
from slipstream.stores.connection import Call, Scripts
from slipstream.stores.keys import Keys
from slipstream.stores.layout import TrendingState

log = get_logger(__name__)

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
        keys: the keys of the namespace.
        revision: the revision of the state that was read; empty for none.
        state: the state to write.
        masses: the masses to add, by item, in the order of `demand.half_lives`; None for a list
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
    """The lists, for one writer. Methods raise what Redis and its client raise.

    Args:
        client: the client.
        scripts: the writer's scripts.
        keys: the keys of the namespace.
        half_life_ms: half-life of an event's weight in the trending list.
        active_ms: time after the newest event for which a visitor counts as active.
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
        half_lives = demand.half_lives(self._half_life_ms)
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
                latest[event.user_id] = max(event.timestamp, latest.get(event.user_id, 0))
                if event.item_id is not None:
                    masses[event.item_id] = demand.add(masses.get(event.item_id), event, half_lives)
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
