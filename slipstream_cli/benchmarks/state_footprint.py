"""What states weigh in Redis, measured on the server itself."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import redis

from slipstream.chassis.settings import RedisSettings
from slipstream.contracts.times import DAY_MS
from slipstream.features.item import ItemState
from slipstream.features.visitor import VisitorState
from slipstream.stores import layout
from slipstream.stores.keys import Keys

_CHUNK = 1_000
_TTL_MS = DAY_MS

S = TypeVar("S", VisitorState, ItemState)


class Footprint:
    """Writes states as the online store would, and asks what each takes. For a namespace of its
    own: what was there is not asked for, and what is written goes after a day.
    """

    def __init__(self, settings: RedisSettings, namespace: str) -> None:
        self._keys = Keys(namespace)
        self._redis: Any = redis.Redis.from_url(settings.url.get_secret_value(), socket_timeout=30)

    def visitors(self, states: Iterable[tuple[str, VisitorState]]) -> list[int]:
        """The bytes of each visitor: key, value and what the server needs to keep them (`MEMORY
        USAGE`).
        """
        return list(self._weigh(states, self._keys.visitor, layout.encode_visitor))

    def items(self, states: Iterable[tuple[str, ItemState]]) -> list[int]:
        """The same of items."""
        return list(self._weigh(states, self._keys.item, layout.encode_item))

    def close(self) -> None:
        self._redis.close()

    def _weigh(
        self,
        states: Iterable[tuple[str, S]],
        key: Callable[[str], str],
        encode: Callable[[S, bytes], bytes],
    ) -> Iterator[int]:
        rest = iter(states)
        while portion := list(islice(rest, _CHUNK)):
            pipeline = self._redis.pipeline(transaction=False)
            for entity_id, state in portion:
                pipeline.set(key(entity_id), encode(state, layout.new_revision()), px=_TTL_MS)
            for entity_id, _ in portion:
                # Without samples nothing is estimated.
                pipeline.memory_usage(key(entity_id), samples=0)
            yield from pipeline.execute()[len(portion) :]
