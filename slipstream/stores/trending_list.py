"""Trending list in Redis: the items with the most decayed weight of events."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from slipstream.chassis.logging import get_logger
from slipstream.contracts.positions import StreamInteraction
from slipstream.contracts.vocabulary import signal_weight
from slipstream.features import decay
from slipstream.features.applied import advance
from slipstream.stores import layout
from slipstream.stores.connection import Call, Scripts
from slipstream.stores.keys import Keys
from slipstream.stores.layout import TrendingState

log = get_logger(__name__)

# Items in the list, the heaviest.
TRENDING_KEPT: Final = 10_000


def trending_call(
    keys: Keys,
    revision: bytes,
    state: TrendingState,
    masses: Iterable[tuple[str, float]],
    *,
    anew: bool,
) -> Call:
    """A run of `trending.lua`, which adds masses if the state is unchanged.

    Args:
        keys: the keys of the namespace.
        revision: the revision of the state that was read; empty for none.
        state: the state to write.
        masses: the masses to add, by item.
        anew: whether the scores so far are dropped.
    """
    arguments: list[Any] = [
        revision,
        layout.encode_trending(state, layout.new_revision()),
        TRENDING_KEPT,
        int(anew),
    ]
    for item_id, mass in masses:
        arguments += [item_id, repr(mass)]
    return Call([keys.trending, keys.trending_scores], arguments)


class TrendingList:
    """The list, for one writer. Methods raise what Redis and its client raise."""

    def __init__(self, client: Any, scripts: Scripts, keys: Keys, half_life_ms: float) -> None:
        self._redis, self._scripts, self._keys = client, scripts, keys
        self._half_life_ms = half_life_ms

    def add(self, records: Sequence[StreamInteraction]) -> None:
        """Add the weights of these records, each at most once.

        With another half-life than before the list begins anew. Nothing is added to a state that
        can't be decoded.
        """
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
            masses: dict[str, float | None] = {}
            for event in events:
                if event.item_id is not None:
                    masses[event.item_id] = decay.add(
                        masses.get(event.item_id),
                        signal_weight(event.event_type),
                        event.timestamp,
                        self._half_life_ms,
                    )
            newest = max(state.newest, max(event.timestamp for event in events))
            call = trending_call(
                self._keys,
                layout.revision_of(value),
                TrendingState(applied, newest, self._half_life_ms),
                ((item_id, mass) for item_id, mass in masses.items() if mass is not None),
                anew=state.half_life_ms != self._half_life_ms,
            )
            if self._scripts.run("trending", [call])[0]:
                return
            self._scripts.lost_races += 1

    def top(self, n: int) -> list[tuple[str, float]]:
        """The `n` heaviest items, highest first, with their weight at the newest event."""
        if n <= 0:
            return []
        scores = self._redis.zrevrange(self._keys.trending_scores, 0, n - 1, withscores=True)
        return layout.trending_items(scores, self._redis.get(self._keys.trending))

    def watermark(self) -> int:
        """The newest event time, in ms; 0 when there is none."""
        value = self._redis.get(self._keys.trending)
        return layout.decode_trending(value).newest if value else 0
