"""Checks of a shop's events and catalogue, as pure functions from figures to findings.

`slipstream doctor` shows the findings. A training run is refused by those of `REFUSING`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from slipstream.contracts.times import DAY_MS, format_duration
from slipstream.contracts.vocabulary import PURCHASE, SIGNAL_WEIGHTS
from slipstream.evaluation.findings import Finding, Weight, share, some

# Columns of the lake's interactions that a row is counted by, in this order.
COLUMNS: Final = (
    "event_type",
    "user_id",
    "item_id",
    "timestamp",
    "received_at",
    "value",
)
# Time by which an event may be ahead of its receipt, as clocks differ (ms).
_CLOCKS_MS: Final = 60_000
# Events from which on a share says something.
_ENOUGH: Final = 50
# Events without any purchase from which on that is no chance.
_ENOUGH_FOR_PURCHASES: Final = 200
_HEAVY_VISITOR: Final = 0.1
_MOST_OF_ALL: Final = 0.4
_WORTH_A_WORD: Final = 0.01
_SOME: Final = 0.05


@dataclass(slots=True)
class EventFigures:
    """Figures of a sample of the lake's newest interactions.

    Attributes:
        valueless: Purchases without a value.
        ahead: Interactions whose time was over a minute ahead of their receipt.
        newest: Time (ms) of the newest interaction that was not ahead; None without any.
    """

    total: int = 0
    sampled: int = 0
    types: Counter[str] = field(default_factory=Counter)
    visitors: Counter[str] = field(default_factory=Counter)
    items: Counter[str] = field(default_factory=Counter)
    valueless: int = 0
    ahead: int = 0
    furthest_ahead_ms: int = 0
    newest: int | None = None

    @property
    def among(self) -> str:
        """The sample in words, for findings."""
        whole = self.sampled >= self.total
        return f"{self.sampled:,} events" if whole else f"the newest {self.sampled:,} events"

    def count(self, rows: pa.Table | pa.RecordBatch) -> None:
        """Count rows that have the columns of `COLUMNS`."""
        self.sampled += rows.num_rows
        counters = {"event_type": self.types, "user_id": self.visitors, "item_id": self.items}
        for name, counter in counters.items():
            values, counts = pc.value_counts(rows[name].drop_null()).flatten()
            counter.update(dict(zip(values.to_pylist(), counts.to_pylist(), strict=True)))
        purchases = rows["value"].filter(pc.equal(rows["event_type"], PURCHASE))
        self.valueless += purchases.null_count
        ahead = pc.subtract(rows["timestamp"], rows["received_at"])
        late = pc.greater(ahead, _CLOCKS_MS)
        self.ahead += pc.sum(late).as_py() or 0
        self.furthest_ahead_ms = max(
            self.furthest_ahead_ms, pc.max(ahead.filter(late)).as_py() or 0
        )
        newest = pc.max(rows["timestamp"].filter(pc.invert(late))).as_py()
        if newest is not None:
            self.newest = max(newest, self.newest or 0)


@dataclass(slots=True)
class CatalogueFigures:
    """Figures of a sample of the catalogue, compared with the items of the events.

    Attributes:
        items: Attributes of the sampled items, by item.
        event_items: Items of the events that were looked for in the catalogue, and were not
            deleted from it.
        lacking: Those that it never had.
        lacking_events: Events that are about these.
    """

    items: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    whole: bool = True
    event_items: int = 0
    lacking: list[str] = field(default_factory=list)
    lacking_events: int = 0


# Checks that refuse a training run, with the share of the data from which on they do. A model that
# is fitted on such data can't be judged by them. What is not listed is only told.
REFUSING: Final[Mapping[str, float]] = {
    # There is nothing to learn from.
    "no_events": 0.0,
    # One id stands for all visitors, so that there is none to ask about.
    "heavy_visitor": 0.9,
    # The order of events is not known, and the test is of what came later.
    "times_ahead": 0.5,
}


def refusals(findings: Iterable[Finding]) -> list[Finding]:
    """The findings that refuse a training run."""
    return [
        found
        for found in findings
        if found.check in REFUSING and found.share >= REFUSING[found.check]
    ]


def check_events(figures: EventFigures, now_ms: int) -> Iterator[Finding]:
    """Judge the events at the present time (ms)."""
    if not figures.sampled:
        yield Finding(
            "no_events",
            Weight.WARNING,
            "the lake has no events",
            "nothing can be learned, and every list is empty or the catalogue's",
            "slipstream import ORDERS PRODUCTS, or send events (docs/events.md)",
            1.0,
        )
        return
    for finding in (
        _no_purchases(figures),
        _without_value(figures),
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


def _without_value(figures: EventFigures) -> Finding | None:
    purchases = figures.types[PURCHASE]
    if not figures.valueless or figures.valueless == purchases:  # none has: the shop sends none
        return None
    return Finding(
        "purchases_without_value",
        Weight.WARNING,
        f"{share(figures.valueless, purchases, 'purchases')} have no value",
        "revenue, results of experiments and prices are too low by theirs",
        "send price and quantity of each product, or value, as numbers (docs/events.md)",
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
        part,
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
        figures.ahead / figures.sampled,
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


def check_catalogue(figures: CatalogueFigures) -> Iterator[Finding]:
    """Compare the catalogue with the events."""
    if not figures.items:
        yield Finding(
            "no_catalogue",
            Weight.WARNING,
            "the catalogue is empty",
            "lists have ids without titles and prices, filters match nothing, and new items are"
            " never shown",
            "slipstream import PRODUCTS, or POST /v1/items of ingestion (docs/events.md)",
        )
    elif figures.lacking:
        heavy = len(figures.lacking) > _SOME * figures.event_items
        yield Finding(
            "items_without_entry",
            Weight.WARNING if heavy else Weight.NOTE,
            f"{share(len(figures.lacking), figures.event_items, 'items of the events')} are not in"
            f" the catalogue, with {figures.lacking_events:,} events: {some(figures.lacking)}",
            "they are recommended without title and price, and no filter or rule reaches them",
            "slipstream import PRODUCTS; where ids differ between files (as SKU and product id),"
            " map the column that both share: --map THEIRS=item_id",
        )
