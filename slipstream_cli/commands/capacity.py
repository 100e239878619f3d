"""`slipstream capacity`: sizes of the parts of a stack for a shop's traffic, and what they cost.

Each size is a load divided by a measured figure, at a share of it that leaves room. Each figure
stands with the way in which it was measured. Tables of sizes are for a terminal, and for
docs/capacity.md.
"""

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import click

from slipstream.contracts.prices import Prices


class Figure(NamedTuple):
    """A measured figure.

    Attributes:
        value: The figure.
        unit: Its unit.
        what: The thing measured.
        command: Command that measures it, or how else it was measured.
        measured: Commit and day of the measurement.
    """

    value: float
    unit: str
    what: str
    command: str
    measured: str


INGESTION: Final = Figure(
    2_900,
    "events/s",
    "single events that one ingestion takes",
    "slipstream bench ingestion",
    "09df3cf, 27 November 2026",
)
FEATURES: Final = Figure(
    9_977,
    "events/s",
    "events that one features counts",
    "slipstream bench scaling",
    "37d7c4b, 28 November 2026, with other work",
)
REDIS: Final = Figure(
    13.8,
    "us/event",
    "time of Redis' one thread",
    "slipstream bench scaling",
    "37d7c4b, 28 November 2026, with other work",
)
STATE: Final = Figure(
    816,
    "bytes",
    "Redis for a visitor or an item, at most",
    "slipstream bench features",
    "86e586d, 25 November 2026",
)
SERVING: Final = Figure(
    1_450,
    "lists/s",
    "lists of one serving process",
    "slipstream bench serving",
    "4739dd2, 28 November 2026",
)
EVENT_BYTES: Final = Figure(
    367,
    "bytes",
    "an event on its topic",
    "mean JSON of bench scaling's events, by hand",
    "37d7c4b, 28 November 2026",
)
SLATE_BYTES: Final = Figure(
    2_000,
    "bytes",
    "a slate of ten on its topic, with circumstances",
    "an estimate: 0.4 to 2.7 KB of it are docs/replay.md's",
    "543bbde, 28 November 2026",
)
LAKE_BYTES: Final = Figure(
    60,
    "bytes",
    "an event in the lake",
    "size of bench scaling's Parquet files, by hand",
    "37d7c4b, 28 November 2026",
)
EVENT_IN_MONITORING: Final = Figure(
    44,
    "us/event",
    "time of monitoring's one consumer, the most of three runs",
    "its code on SQLite, which reads a full topic, by hand",
    "42900095, 1 December 2026, with other work",
)
SLATE_IN_MONITORING: Final = Figure(
    88,
    "us/slate",
    "the same, of a slate of 1.7 KB, the most of four runs",
    "its code on SQLite, which reads a full topic, by hand",
    "42900095, 1 December 2026, with other work",
)
COUNTING: Final = Figure(
    11_759,
    "records/s",
    "events and slates that monitoring counts from the lake in a second of one core",
    "slipstream bench monitoring",
    "9c293bd6, 1 December 2026, with other work",
)
CREDIT_BYTES: Final = Figure(
    330,
    "bytes",
    "a credited click, cart or purchase in SQL, on SQLite, with its share of the sums",
    "slipstream bench monitoring, 22 MB for 66,667 of them (docs/adr/0108)",
    "030934a1, 1 December 2026, with other work",
)
TRAINING_S: Final = Figure(
    102,
    "us/event",
    "time of a run, profile fast, on two cores",
    "slipstream evaluate, a simulated shop of 10,000,000 events",
    "cd346e0, 24 November 2026",
)
TRAINING_BYTES: Final = Figure(
    480, "bytes/event", "memory of that run", "the same", "cd346e0, 24 November 2026"
)

DAY_S: Final = 86_400
GB: Final = 1e9
# Share of a measured figure that is planned with.
ROOM: Final = 0.6
# Redis' memory over that of its states: keys of repeats and lists, and pages copied while its file
# is rewritten.
REDIS_SPARE: Final = 1.5
# Days that topics keep events and slates, and copies of each record.
TOPIC_DAYS: Final = 7
COPIES: Final = 3
# Memory of one process in GB: as a container is limited to, less where catalogues are small.
# Monitoring took 0.54 while it counted a flood (docs/performance.md, "Outcomes"), and 1.05 among
# hostile clients.
MEMORY_GB: Final = {"ingestion": 0.25, "features": 0.5, "serving": 0.5, "monitoring": 1.0}
# Days that credits are kept.
CREDIT_DAYS: Final = 33
# Processors of one process of serving: one for its event loop and one for the kernels.
SERVING_CORES: Final = 2
DAYS_OF_MONTH: Final = 30


@dataclass(frozen=True)
class Shop:
    """Traffic of a shop, and its habits.

    Attributes:
        daily_visitors: Visitors of a day.
        events: Events of a visitor in a day.
        lists: Lists that a visitor is shown in a day.
        credited: Clicks, carts and purchases of a visitor in a day that a list led to.
        known: Visitors that the online store knows (90 days) for each visitor of a day.
        items: Items of the catalogue.
        peak: Load of the busiest minutes over the day's mean.
        lake_days: Days that the lake keeps.
        trained: Most events that a run reads (`SLIPSTREAM_TRAINING__MOST_EVENTS`).
    """

    daily_visitors: int
    events: float = 20
    lists: float = 10
    credited: float = 1
    known: float = 10
    items: int = 100_000
    peak: float = 4
    lake_days: int = 365
    trained: int = 10_000_000


class Size(NamedTuple):
    """The size of one part.

    Attributes:
        part: The part.
        load: What it has to carry, in words.
        processes: Number of processes, at least two of a stateless one.
        cores: Processors in all.
        memory_gb: Memory in all.
        disk_gb: Disks in all.
        used: Share of its limit that the peak takes, where more processes would not help; None
            where they would.
        hours: Hours of a day that it runs.
    """

    part: str
    load: str
    processes: int
    cores: float
    memory_gb: float
    disk_gb: float = 0.0
    used: float | None = None
    hours: float = 24.0


def sizes(shop: Shop) -> list[Size]:
    """The size of each part."""
    events_s = shop.daily_visitors * shop.events / DAY_S * shop.peak
    lists_s = shop.daily_visitors * shop.lists / DAY_S * shop.peak
    return [
        _spread("ingestion", f"{events_s:,.0f} events/s", events_s / INGESTION.value),
        _spread("features", f"{events_s:,.0f} events/s", events_s / FEATURES.value),
        _redis(shop, events_s),
        _spread("serving", f"{lists_s:,.0f} lists/s", lists_s / SERVING.value),
        _monitoring(shop, events_s, lists_s),
        _training(shop),
        _kafka(shop, events_s),
        _postgresql(shop),
    ]


def lake_gb(shop: Shop) -> float:
    """The events in the lake, in GB."""
    rows = shop.daily_visitors * shop.events * shop.lake_days
    return rows * LAKE_BYTES.value / GB


def monthly_cost(shop: Shop, prices: Prices = Prices()) -> float:
    """Dollars of a month, without traffic and people."""
    total = lake_gb(shop) * prices.object_gb_month
    for size in sizes(shop):
        hourly = size.cores * prices.core_hour + size.memory_gb * prices.gb_hour
        total += hourly * size.hours * DAYS_OF_MONTH + size.disk_gb * prices.disk_gb_month
    return total


def _spread(part: str, load: str, needed: float) -> Size:
    """A part with processes that share the load: two at least, so that one may fail."""
    processes = max(2, math.ceil(needed / ROOM))
    cores = SERVING_CORES if part == "serving" else 1
    # A process that does little needs little: the first tenth of a core is its idling.
    busy = min(cores, cores * (0.1 + needed / ROOM / processes))
    return Size(part, load, processes, processes * busy, processes * MEMORY_GB[part])


def _redis(shop: Shop, events_s: float) -> Size:
    states = shop.daily_visitors * shop.known + shop.items
    memory = states * STATE.value / GB
    thread = events_s * REDIS.value / 1e6
    load = f"{states:,.0f} states, {events_s:,.0f} events/s"
    return Size(
        "Redis",
        load,
        2,
        2 * (0.1 + thread),
        2 * memory * REDIS_SPARE,
        2 * 2 * memory,
        thread / ROOM,
    )


def _monitoring(shop: Shop, events_s: float, lists_s: float) -> Size:
    """Its consumer has to keep up with the peak; counting may catch up, so with the day's mean."""
    taken = events_s * EVENT_IN_MONITORING.value
    busy = (taken + lists_s * SLATE_IN_MONITORING.value) / 1e6
    counting = shop.daily_visitors * (shop.events + shop.lists) / DAY_S / COUNTING.value
    load = f"{events_s:,.0f} events/s, {lists_s:,.0f} slates/s"
    cores = min(1.0, 0.1 + busy) + min(1.0, counting)
    used = max(busy, counting) / ROOM
    return Size("monitoring", load, 1, cores, MEMORY_GB["monitoring"], used=used)


def _postgresql(shop: Shop) -> Size:
    credits = shop.daily_visitors * shop.credited * CREDIT_DAYS
    disk = 20 + credits * CREDIT_BYTES.value / GB
    return Size("PostgreSQL", f"models, reports, keys, {credits:,.0f} credits", 1, 1, 2, disk)


def _training(shop: Shop) -> Size:
    """One run a day, in a Job that takes its processors and memory for as long as it lasts."""
    read = min(shop.trained, shop.daily_visitors * shop.events * shop.lake_days)
    hours = read * TRAINING_S.value / 1e6 / 3_600
    memory = 1.0 + read * TRAINING_BYTES.value / GB
    return Size("training", f"{read:,.0f} events", 1, 2, memory, 20, hours=hours)


def _kafka(shop: Shop, events_s: float) -> Size:
    visitors = shop.daily_visitors
    of_day = visitors * (shop.events * EVENT_BYTES.value + shop.lists * SLATE_BYTES.value)
    disk = of_day * TOPIC_DAYS * COPIES / GB
    rate = of_day / DAY_S * shop.peak / 1e6
    # A broker of two processors takes 20 MB/s with ease (docs/performance.md, "Ingestion").
    brokers = max(COPIES, math.ceil(rate * COPIES / 20))
    return Size(
        "Kafka",
        f"{events_s:,.0f} events/s, {rate:,.1f} MB/s",
        brokers,
        brokers * 1.0,
        brokers * 4.0,
        disk,
    )


_HEADS = ("part", "load at the peak", "processes", "cores", "GB", "disk GB", "of its limit")


def table(shop: Shop, prices: Prices) -> str:
    """The sizes of a shop's parts, a line each, and the cost."""
    lines = [list(_HEADS), *map(_cells, sizes(shop))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADS))]
    texts = [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([f"{shop.daily_visitors:,} visitors a day", *texts, _sum(shop, prices), ""])


def page_rows(shop: Shop, prices: Prices) -> str:
    """The same as rows of Markdown."""
    rows = [list(_HEADS), ["---"] * len(_HEADS), *map(_cells, sizes(shop))]
    body = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"### {shop.daily_visitors:,} visitors a day\n\n{body}\n\n{_sum(shop, prices)}\n"


def _sum(shop: Shop, prices: Prices) -> str:
    return f"Lake: {lake_gb(shop):,.0f} GB. Together: ${monthly_cost(shop, prices):,.0f} a month."


def _cells(size: Size) -> list[str]:
    return [
        size.part if size.hours == 24 else f"{size.part}, {size.hours * 60:,.0f} min a day",
        size.load,
        str(size.processes),
        f"{size.cores:,.1f}",
        f"{size.memory_gb:,.1f}",
        f"{size.disk_gb:,.0f}" if size.disk_gb else "",
        "" if size.used is None else f"{size.used:.0%}",
    ]


_rate = click.FloatRange(min=0, min_open=True)


@click.command(short_help="Size a stack for a number of daily visitors, and say what it costs.")
@click.option(
    "--daily-visitors",
    type=click.IntRange(1),
    multiple=True,
    default=(1_000, 100_000, 10_000_000),
    show_default="1,000, 100,000 and 10,000,000",
    help="Visitors of a day; may be given several times.",
)
@click.option("--events", type=_rate, default=20, show_default=True, help="Events of a visitor.")
@click.option("--lists", type=_rate, default=10, show_default=True, help="Lists for a visitor.")
@click.option(
    "--credited",
    type=_rate,
    default=1,
    show_default=True,
    help="Clicks, carts and purchases of a visitor that a list led to.",
)
@click.option(
    "--known",
    type=_rate,
    default=10,
    show_default=True,
    help="Visitors of 90 days for each visitor of a day.",
)
@click.option("--items", type=click.IntRange(1), default=100_000, show_default=True, help="Items.")
@click.option("--peak", type=_rate, default=4, show_default=True, help="Peak over the mean load.")
@click.option(
    "--core-hour",
    type=_rate,
    default=0.04,
    show_default=True,
    help="USD per core-hour.",
)
@click.option(
    "--gb-hour", type=_rate, default=0.005, show_default=True, help="USD per GB-hour of memory."
)
def capacity(
    daily_visitors: tuple[int, ...],
    events: float,
    lists: float,
    credited: float,
    known: float,
    items: int,
    peak: float,
    core_hour: float,
    gb_hour: float,
) -> None:
    """Size each part of a stack by measured figures, and add its price up.

    `docs/capacity.md` has the formulas, and the command that measures each figure on your machines.

    \b
    Example:  slipstream capacity
              slipstream capacity --daily-visitors 50000 --events 8 --lists 3
    """
    prices = Prices(core_hour, gb_hour)
    for number in daily_visitors:
        shop = Shop(number, events, lists, credited, known, items, peak)
        click.echo(table(shop, prices))
