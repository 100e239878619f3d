"""Events that a stack has received: figures of the lake's newest ones, and their checks."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from slipstream.contracts.times import DAY_MS, format_duration
from slipstream.contracts.vocabulary import (
    PURCHASE,
    SIGNAL_WEIGHTS,
)
from slipstream.stores.lake_reader import LakeReader
from slipstream.stores.tables import INTERACTIONS
from slipstream_cli.doctor.findings import Finding, Limits, Weight, share, some

# Columns of the lake's interactions that a row is counted by, in this order.
COLUMNS: Final = (
    "event_type",
    "user_id",
    "item_id",
    "timestamp",
    "received_at",
)
Row = tuple[str, str, str | None, int, int]

# Time by which an event may be ahead of its receipt, as clocks differ (ms).
_CLOCKS_MS: Final = 60_000
# Events from which on a share says something.
_ENOUGH: Final = 50
# Events without any purchase from which on that is no chance.
_ENOUGH_FOR_PURCHASES: Final = 200
_HEAVY_VISITOR: Final = 0.1
_MOST_OF_ALL: Final = 0.4
_WORTH_A_WORD: Final = 0.01


@dataclass(slots=True)
class EventFigures:
    """Figures of a sample of the lake's newest interactions.

    Attributes:
        total: Interactions in the lake.
        sampled: Interactions of the sample.
        types: Interactions by type.
        visitors: Interactions by visitor.
        items: Interactions by item.
        ahead: Interactions whose time was over a minute ahead of their receipt.
        furthest_ahead_ms: The longest of these times.
        newest: Time (ms) of the newest interaction that was not ahead; None without any.
    """

    total: int = 0
    sampled: int = 0
    types: Counter[str] = field(default_factory=Counter)
    visitors: Counter[str] = field(default_factory=Counter)
    items: Counter[str] = field(default_factory=Counter)
    ahead: int = 0
    furthest_ahead_ms: int = 0
    newest: int | None = None

    @property
    def among(self) -> str:
        """The sample in words, for findings."""
        whole = self.sampled >= self.total
        return f"{self.sampled:,} events" if whole else f"the newest {self.sampled:,} events"

    def count(self, rows: Iterable[Row]) -> None:
        """Count rows, each with the values of `COLUMNS`."""
        for event_type, user, item, at, received_at in rows:
            self.sampled += 1
            self.types[event_type] += 1
            self.visitors[user] += 1
            if item is not None:
                self.items[item] += 1
            if at > received_at + _CLOCKS_MS:
                self.ahead += 1
                self.furthest_ahead_ms = max(self.furthest_ahead_ms, at - received_at)
            else:
                self.newest = max(at, self.newest or 0)


def read_events(lake: LakeReader, limits: Limits) -> EventFigures:
    """Count the newest interactions, until a limit of rows, bytes or seconds is reached.

    Raises:
        LakeUnavailableError: The lake can't be read.
    """
    figures = EventFigures(total=lake.count(INTERACTIONS))
    until, read_bytes = time.monotonic() + limits.seconds, 0
    for batch in lake.newest(INTERACTIONS, COLUMNS):
        rows = batch.slice(0, limits.events - figures.sampled)
        figures.count(zip(*(rows[name].to_pylist() for name in COLUMNS), strict=True))
        read_bytes += batch.nbytes
        if (
            figures.sampled >= limits.events
            or read_bytes >= limits.event_bytes
            or time.monotonic() > until
        ):
            break
    return figures


def check_events(figures: EventFigures, now_ms: int) -> Iterator[Finding]:
    """Judge the events at the present time (ms)."""
    if not figures.sampled:
        yield Finding(
            "no_events",
            Weight.WARNING,
            "the lake has no events",
            "nothing can be learned, and every list is empty or the catalogue's",
            "slipstream import ORDERS PRODUCTS, or send events (docs/events.md)",
        )
        return
    for finding in (
        _no_purchases(figures),
        _heavy_visitor(figures),
        _times_ahead(figures),
        _unknown_types(figures),
        _silence(figures, now_ms),
    ):
        if finding:
            yield finding


def _no_purchases(figures: EventFigures) -> Finding | None:
    if figures.types[PURCHASE] or figures.sampled < _ENOUGH_FOR_PURCHASES:
        return None
    carts = figures.types["cart"]
    return Finding(
        "no_purchases",
        Weight.WARNING,
        f"no purchase among {figures.among}" + (f", but {carts:,} carts" if carts else ""),
        "a purchase counts three times as much as a view, and conversion can't be measured",
        "send Order Completed (docs/events.md), or slipstream import ORDERS --event-type purchase",
    )


def _heavy_visitor(figures: EventFigures) -> Finding | None:
    visitor, events = figures.visitors.most_common(1)[0]
    part = events / figures.sampled
    if part < _HEAVY_VISITOR or figures.sampled < _ENOUGH:
        return None
    return Finding(
        "heavy_visitor",
        Weight.WARNING if part >= _MOST_OF_ALL else Weight.NOTE,
        f"visitor {some([visitor])} has {100 * part:.0f} % of {figures.among} ({events:,})",
        "a crawler, a test or a default id: it distorts trending items and similar visitors",
        "leave it out at the source, or erase it: DELETE /v1/users/ID of ingestion",
    )


def _times_ahead(figures: EventFigures) -> Finding | None:
    if not figures.ahead:
        return None
    heavy = figures.ahead / figures.sampled >= _WORTH_A_WORD
    return Finding(
        "times_ahead",
        Weight.WARNING if heavy else Weight.NOTE,
        f"{share(figures.ahead, figures.sampled, 'events')} had a time in the future when they"
        f" arrived, by up to {format_duration(figures.furthest_ahead_ms / 1000)}",
        "until then they count as a visitor's latest events, so lists follow them and not newer"
        " clicks",
        "send times with their zone, in UTC; of files: slipstream import FILE --timezone ZONE",
    )


def _unknown_types(figures: EventFigures) -> Finding | None:
    custom = {name: count for name, count in figures.types.items() if name not in SIGNAL_WEIGHTS}
    events = sum(custom.values())
    if events < _WORTH_A_WORD * figures.sampled or not custom:
        return None
    names = sorted(custom, key=lambda name: -custom[name])
    return Finding(
        "unknown_types",
        Weight.WARNING,
        f"{share(events, figures.sampled, 'events')} are of unknown types: {some(names)}",
        "each counts as much as a view, even where it is an order or a refund",
        "map the names: SLIPSTREAM_INGESTION__EVENT_MAPPING (docs/events.md), or"
        " slipstream import FILE --type THEIRS=OURS",
    )


def _silence(figures: EventFigures, now_ms: int) -> Finding | None:
    if figures.newest is None or now_ms - figures.newest < DAY_MS:
        return None
    return Finding(
        "silence",
        Weight.WARNING,
        f"the newest event happened {format_duration((now_ms - figures.newest) / 1000)} ago",
        "lists ignore what visitors do now, and trending items date from that event's time",
        "send events as they happen (docs/events.md); refused ones: slipstream dead-letters list",
    )
