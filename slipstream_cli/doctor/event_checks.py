"""Checks of the events that a stack has received: figures in, findings out."""

from collections.abc import Callable, Iterator
from typing import Final

from slipstream.contracts.times import DAY_MS, format_duration
from slipstream.contracts.vocabulary import CLICK, CONVERSIONS, PURCHASE, SIGNAL_WEIGHTS
from slipstream_cli.doctor.event_figures import EventFigures
from slipstream_cli.doctor.findings import Finding, Weight, share, some

# Events from which on a share says something.
_ENOUGH: Final = 50
# Events without any purchase from which on that is no chance.
_ENOUGH_FOR_PURCHASES: Final = 200
_HEAVY_VISITOR: Final = 0.1
_MOST_OF_ALL: Final = 0.4
_NEARLY_ALL: Final = 0.9
_WORTH_A_WORD: Final = 0.01
# Users of one anonymous id from which on nobody's household is that large.
_CROWD: Final = 8
# Slates from which on clicks should name some.
_SLATES: Final = 100


def check_events(figures: EventFigures, slates: int, now_ms: int) -> Iterator[Finding]:
    """Judge the events.

    Args:
        figures: Figures of the newest events.
        slates: Slates that the lake has.
        now_ms: The present time.
    """
    if not figures.sampled:
        yield Finding(
            "no_events",
            Weight.WARNING,
            "the lake has no events",
            "nothing can be learned, and every list is empty or the catalogue's",
            "slipstream import ORDERS PRODUCTS, or send events (docs/events.md)",
        )
        return
    for check in _CHECKS:
        if finding := check(figures):
            yield finding
    if finding := _silence(figures, now_ms):
        yield finding
    if finding := _unnamed_slates(figures, slates):
        yield finding


def _no_purchases(figures: EventFigures) -> Finding | None:
    if figures.types[PURCHASE] or figures.sampled < _ENOUGH_FOR_PURCHASES:
        return None
    carts = figures.types["cart"]
    return Finding(
        "no_purchases",
        Weight.WARNING,
        f"no purchase among {figures.among}" + (f", but {carts:,} carts" if carts else ""),
        "a purchase says three times as much as a view, and conversion can't be measured",
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
        "a crawler, a test or a default id: it shapes what is trending, and who is like whom",
        "leave it out at the source, or erase it: DELETE /v1/users/ID of ingestion",
    )


def _shared_device(figures: EventFigures) -> Finding | None:
    devices = figures.users_of_device
    if not devices:
        return None
    device = max(devices, key=lambda name: len(devices[name]))
    users = len(devices[device])
    if users < _CROWD:
        return None
    return Finding(
        "shared_device",
        Weight.WARNING,
        f"at least {users} users send the same anonymousId {some([device])}",
        "what its visitor does without a name counts for the first user who logged in on it",
        "make the anonymousId for each browser (docs/tracker.md), never in a page's template",
    )


def _times_ahead(figures: EventFigures) -> Finding | None:
    if not figures.ahead:
        return None
    heavy = figures.ahead / figures.sampled >= _WORTH_A_WORD
    return Finding(
        "times_ahead",
        Weight.WARNING if heavy else Weight.NOTE,
        f"{share(figures.ahead, figures.sampled, 'events')} were in the future when they came, by"
        f" up to {format_duration(figures.furthest_ahead_ms / 1000)}",
        "they stay a visitor's latest for as long, and the lists follow them rather than the clicks"
        " that come",
        "send times with their zone, in UTC; of files: slipstream import FILE --timezone ZONE",
    )


def _whole_hours(figures: EventFigures) -> Finding | None:
    if figures.sampled < _ENOUGH or figures.whole_hours < _NEARLY_ALL * figures.sampled:
        return None
    return Finding(
        "days_for_times",
        Weight.WARNING,
        f"{share(figures.whole_hours, figures.sampled, 'events')} have a whole hour as their time",
        "dates without a time hide the order within a day, which the model learns from",
        "export the column with the time, or map it: slipstream import FILE --map THEIRS=timestamp",
    )


def _custom_types(figures: EventFigures) -> Finding | None:
    custom = {name: count for name, count in figures.types.items() if name not in SIGNAL_WEIGHTS}
    events = sum(custom.values())
    if events < _WORTH_A_WORD * figures.sampled or not custom:
        return None
    names = sorted(custom, key=lambda name: -custom[name])
    return Finding(
        "unknown_types",
        Weight.WARNING,
        f"{share(events, figures.sampled, 'events')} have types without a meaning: {some(names)}",
        "each counts as much as a view, even where it is an order or a refund",
        "map the names: SLIPSTREAM_INGESTION__EVENT_MAPPING (docs/events.md), or"
        " slipstream import FILE --type THEIRS=OURS",
    )


def _short_histories(figures: EventFigures) -> Finding | None:
    if figures.sampled < _ENOUGH or not figures.histories:
        return None
    single = sum(1 for events in figures.histories.values() if events == 1)
    if single < _NEARLY_ALL * len(figures.histories):
        return None
    return Finding(
        "single_events",
        Weight.WARNING,
        f"{share(single, len(figures.histories), 'visitors')} have one event alone",
        "a model learns from what follows what, and single events have nothing behind them",
        "keep the visitor's id from page to page (docs/tracker.md), and identify on login",
    )


def _lonely_keys(figures: EventFigures) -> Finding | None:
    lonely = {
        name: source.events
        for name, source in figures.sources.items()
        if len(source.clients) == 1 and source.events >= _ENOUGH
    }
    if not lonely or len(figures.visitors) == 1:
        return None
    names = sorted(lonely, key=lambda name: -lonely[name])
    return Finding(
        "lonely_key",
        Weight.WARNING,
        f"all {lonely[names[0]]:,} events of the write key {some(names, 1)} come from one client",
        "a test that runs on, or a server that sends one id for all of its visitors",
        "slipstream keys list; send each visitor's own id (docs/events.md)",
    )


def _silence(figures: EventFigures, now_ms: int) -> Finding | None:
    if figures.newest is None or now_ms - figures.newest < DAY_MS:
        return None
    return Finding(
        "silence",
        Weight.WARNING,
        f"the newest event happened {format_duration((now_ms - figures.newest) / 1000)} ago",
        "lists do not know what visitors do now, and trending items are those of then",
        "send events as they happen (docs/events.md); refused ones: slipstream dead-letters list",
    )


def _unnamed_slates(figures: EventFigures, slates: int) -> Finding | None:
    clicks = sum(figures.types[name] for name in (CLICK, *CONVERSIONS))
    if slates < _SLATES or figures.named_slates or clicks < _ENOUGH or not figures.live:
        return None
    return Finding(
        "unnamed_slates",
        Weight.WARNING,
        f"none of {clicks:,} clicks, carts and purchases names one of {slates:,} lists",
        "click-through, experiments and canaries are judged by guesses about who saw what",
        "put the answer's recommendation_id on the events that follow (docs/events.md)",
    )


_CHECKS: Final[tuple[Callable[[EventFigures], Finding | None], ...]] = (
    _no_purchases,
    _heavy_visitor,
    _shared_device,
    _times_ahead,
    _whole_hours,
    _custom_types,
    _short_histories,
    _lonely_keys,
)
