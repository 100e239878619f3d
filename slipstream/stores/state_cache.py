"""States that were read lately, so that what has not changed is not taken apart again."""

from collections.abc import Callable
from typing import Generic, TypeVar

from slipstream.stores.layout import REVISION_BYTES

S = TypeVar("S")


class StateCache(Generic[S]):
    """Decodes values, and remembers `size` of them by key and revision: each write gives a value a
    revision that none had before, so what is remembered under it is what the value says. The states
    are shared: whoever gets one must not change it.
    """

    def __init__(self, decode: Callable[[bytes], S], size: int) -> None:
        self._decode, self._size = decode, size
        self._known: dict[str, tuple[bytes, S]] = {}

    def state(self, key: str, value: bytes) -> S:
        """The state in a value that was read under this key. Raises what `decode` raises."""
        revision = value[:REVISION_BYTES]
        known = self._known.get(key)
        if known is not None and known[0] == revision:
            return known[1]
        state = self._decode(value)
        self.remember(key, revision, state)
        return state

    def remember(self, key: str, revision: bytes, state: S) -> None:
        """What a value of this revision says, for who has just written it."""
        self._known.pop(key, None)
        if len(self._known) >= self._size:
            del self._known[next(iter(self._known))]  # the one that has been there for longest
        self._known[key] = revision, state
