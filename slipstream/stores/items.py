"""Items in Redis: events and pairs folded into their states, each record at most once."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from slipstream.chassis.logging import get_logger
from slipstream.contracts.events import Interaction
from slipstream.contracts.positions import StreamInteraction
from slipstream.features import item
from slipstream.features.applied import advance
from slipstream.features.covisits import Covisit
from slipstream.stores import layout
from slipstream.stores.connection import Call, Scripts
from slipstream.stores.keys import Keys
from slipstream.stores.layout import StateCache

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
                arguments = [
                    layout.revision_of(value),
                    layout.encode_item(state, revision),
                    self._ttl_ms,
                ]
                calls.append(Call([key], arguments))
                self._cache.remember(key, revision, state)
                item_ids.append(item_id)
            done = self._scripts.replace(calls)
            pending = [item_id for item_id, ok in zip(item_ids, done, strict=True) if not ok]
