"""Ids of events, which follow from their rows, so that a file read again has the same."""

import hashlib
from collections import Counter


def message_id(identity: tuple[str, ...], repetition: int) -> str:
    """The id of an event, equal whenever and wherever its file is read.

    Args:
        identity: The event's identity.
        repetition: Its number among the events of equal identity, from 1.
    """
    if identity[0] == "event" and len(identity) == 2:
        return identity[1]
    text = "\0".join((*identity, str(repetition)))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class Repetitions:
    """Numbers of events of equal identity, in the order of time."""

    def __init__(self) -> None:
        self._now: int | None = None
        self._alike: Counter[tuple[str, ...]] = Counter()

    def number(self, identity: tuple[str, ...], timestamp: int, unique: bool) -> int:
        """The event's number among its equals, from 1; always 1 for a unique identity."""
        if unique:
            return 1
        if timestamp != self._now:
            self._now = timestamp
            self._alike.clear()
        self._alike[identity] += 1
        return self._alike[identity]
