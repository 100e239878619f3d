"""Figures of a sample of interactions, counted row by row."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.contracts.vocabulary import IMPRESSION, signal_weight

# Columns of the lake's interactions that a row is counted by, in this order.
COLUMNS: Final = (
    "event_type",
    "user_id",
    "anonymous_id",
    "item_id",
    "timestamp",
    "received_at",
    "source",
    "recommendation_id",
)
Row = tuple[str, str, str | None, str | None, int, int, str, str | None]

# Time by which an event may be ahead of its receipt, as clocks differ (ms).
_CLOCKS_MS: Final = 60_000
# Users of one device that are kept by name.
_USERS_KEPT: Final = 50


@dataclass(slots=True)
class SourceFigures:
    """Events that one write key has sent, and the visitors or devices that they came from."""

    events: int = 0
    clients: set[str] = field(default_factory=set)


@dataclass(slots=True)
class EventFigures:
    """Figures of a sample of the lake's newest interactions.

    Attributes:
        total: Interactions in the lake.
        sampled: Interactions of the sample.
        types: Interactions by type.
        visitors: Interactions by visitor.
        histories: Interactions that say something of liking, by visitor.
        items: Interactions by item.
        sources: Figures by the name of the write key.
        users_of_device: Up to 50 users by anonymous id.
        ahead: Interactions whose time was over a minute ahead of their receipt.
        furthest_ahead_ms: The longest of these times.
        whole_hours: Interactions whose time is a whole hour.
        named_slates: Interactions, without impressions, that name the slate that they follow.
        oldest: Time of the oldest interaction (ms); None without any.
        newest: Time of the newest one that was not ahead; None without any.
        live: Interactions that were received within a day of their time.
    """

    total: int = 0
    sampled: int = 0
    types: Counter[str] = field(default_factory=Counter)
    visitors: Counter[str] = field(default_factory=Counter)
    histories: Counter[str] = field(default_factory=Counter)
    items: Counter[str] = field(default_factory=Counter)
    sources: dict[str, SourceFigures] = field(default_factory=lambda: defaultdict(SourceFigures))
    users_of_device: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    ahead: int = 0
    furthest_ahead_ms: int = 0
    whole_hours: int = 0
    named_slates: int = 0
    oldest: int | None = None
    newest: int | None = None
    live: int = 0

    @property
    def whole(self) -> bool:
        """Whether the sample is all that the lake has."""
        return self.sampled >= self.total

    @property
    def among(self) -> str:
        """The sample in words, for findings."""
        return f"{self.sampled:,} events" if self.whole else f"the newest {self.sampled:,} events"

    def count(self, rows: Iterable[Row]) -> None:
        """Count rows, each with the values of `COLUMNS`."""
        for event_type, user, device, item, at, received_at, source, slate in rows:
            self.sampled += 1
            self.types[event_type] += 1
            self.visitors[user] += 1
            if item is not None:
                self.items[item] += 1
                if signal_weight(event_type) > 0:
                    self.histories[user] += 1
            of_source = self.sources[source]
            of_source.events += 1
            of_source.clients.add(device or user)
            if device is not None and device != user:
                users = self.users_of_device[device]
                if len(users) < _USERS_KEPT:
                    users.add(user)
            self.named_slates += slate is not None and event_type != IMPRESSION
            self.whole_hours += at % HOUR_MS == 0
            self.live += abs(received_at - at) < DAY_MS
            self.oldest = at if self.oldest is None else min(at, self.oldest)
            if at > received_at + _CLOCKS_MS:
                self.ahead += 1
                self.furthest_ahead_ms = max(self.furthest_ahead_ms, at - received_at)
            else:
                self.newest = max(at, self.newest or 0)
