"""Cache of decoded states, so that unchanged values are not decoded again."""

from collections.abc import Callable
from typing import Generic, TypeVar

from slipstream.stores.layout import REVISION_BYTES

S = TypeVar("S")


class StateCache(Generic[S]):
    """Decodes values, and keeps the `size` newest states by key and revision.

    Every write gives a value a revision that none had before, so a state with the value's revision
    is the value's. The states are shared: callers must not change them.
    """

    def __init__(self, decode: Callable[[bytes], S], size: int) -> None:
        self._decode, self._size = decode, size
        self._states: dict[str, tuple[bytes, S]] = {}

    def state(self, key: str, value: bytes) -> S:
        """The state in a value that was read under this key. Raises what `decode` raises."""
        revision = value[:REVISION_BYTES]
        kept = self._states.get(key)
        if kept is not None and kept[0] == revision:
            return kept[1]
        state = self._decode(value)
        self.remember(key, revision, state)
        return state

    def remember(self, key: str, revision: bytes, state: S) -> None:
        """Keep the state of a value that was just written with this revision."""
        self._states.pop(key, None)
        if len(self._states) >= self._size:
            del self._states[next(iter(self._states))]  # the oldest
        self._states[key] = revision, state
