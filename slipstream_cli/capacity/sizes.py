"""Sizes of the parts of a stack: processes, memory and disks for a shop's traffic, and money.

Each size is a load divided by a measured figure (`figures`), at a share of it that leaves room.
"""

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from slipstream_cli.capacity import figures

DAY_S: Final = 86_400
GB: Final = 1e9
# Share of a measured figure that is planned with.
ROOM: Final = 0.6
# Redis' memory over that of its states: keys of repeats and lists, and pages copied while its file
# is written anew.
REDIS_SPARE: Final = 1.5
# Days that topics keep events and slates, and copies of each record.
TOPIC_DAYS: Final = 7
COPIES: Final = 3
# Memory of one process in GB: as a container is limited to, less where catalogues are small.
MEMORY_GB: Final = {"ingestion": 0.25, "features": 0.5, "serving": 0.5, "monitoring": 0.5}
# Processors of one process of serving: its event loop, and the kernels beside it.
SERVING_CORES: Final = 2
DAYS_OF_MONTH: Final = 30


@dataclass(frozen=True)
class Shop:
    """Traffic of a shop, and its habits.

    Attributes:
        daily_visitors: Visitors of a day.
        events: Events of a visitor in a day.
        lists: Lists that a visitor is shown in a day.
        known: Visitors that the online store knows (90 days) for each visitor of a day.
        items: Items of the catalogue.
        peak: Load of the busiest minutes over the day's mean.
        lake_days: Days that the lake keeps.
        trained: Most events that a run reads (`SLIPSTREAM_TRAINING__MOST_EVENTS`).
    """

    daily_visitors: int
    events: float = 20
    lists: float = 10
    known: float = 10
    items: int = 100_000
    peak: float = 4
    lake_days: int = 365
    trained: int = 10_000_000


@dataclass(frozen=True)
class Prices:
    """Prices of a cloud, in dollars."""

    core_hour: float = 0.04
    gb_hour: float = 0.005
    disk_gb_month: float = 0.10
    object_gb_month: float = 0.023


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
        _spread("ingestion", f"{events_s:,.0f} events/s", events_s / figures.INGESTION.value),
        _spread("features", f"{events_s:,.0f} events/s", events_s / figures.FEATURES.value),
        _redis(shop, events_s),
        _spread("serving", f"{lists_s:,.0f} lists/s", lists_s / figures.SERVING.value),
        _monitoring(events_s, lists_s),
        _training(shop),
        _kafka(shop, events_s),
        Size("PostgreSQL", "models, reports, keys", 1, 1, 2, 20),
    ]


def lake_gb(shop: Shop) -> float:
    """The events in the lake, in GB."""
    rows = shop.daily_visitors * shop.events * shop.lake_days
    return rows * figures.LAKE_BYTES.value / GB


def monthly_cost(shop: Shop, prices: Prices = Prices()) -> float:
    """Dollars of a month, without traffic and people."""
    total = lake_gb(shop) * prices.object_gb_month
    for size in sizes(shop):
        hourly = size.cores * prices.core_hour + size.memory_gb * prices.gb_hour
        total += hourly * size.hours * DAYS_OF_MONTH + size.disk_gb * prices.disk_gb_month
    return total


def _spread(part: str, load: str, needed: float) -> Size:
    """A part whose processes share the load: two at least, so that one may be away."""
    processes = max(2, math.ceil(needed / ROOM))
    cores = SERVING_CORES if part == "serving" else 1
    # A process that does little needs little: the first tenth of a core is its idling.
    busy = min(cores, cores * (0.1 + needed / ROOM / processes))
    return Size(part, load, processes, processes * busy, processes * MEMORY_GB[part])


def _redis(shop: Shop, events_s: float) -> Size:
    states = shop.daily_visitors * shop.known + shop.items
    memory = states * figures.STATE.value / GB
    thread = events_s * figures.REDIS.value / 1e6
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


def _monitoring(events_s: float, lists_s: float) -> Size:
    taken = events_s * figures.EVENT_IN_MONITORING.value
    busy = (taken + lists_s * figures.SLATE_IN_MONITORING.value) / 1e6
    load = f"{events_s:,.0f} events/s, {lists_s:,.0f} slates/s"
    cores = min(1.0, 0.1 + busy)
    return Size("monitoring", load, 1, cores, MEMORY_GB["monitoring"], used=busy / ROOM)


def _training(shop: Shop) -> Size:
    """One run a day, in a Job that takes its processors and memory for as long as it lasts."""
    read = min(shop.trained, shop.daily_visitors * shop.events * shop.lake_days)
    hours = read * figures.TRAINING_S.value / 1e6 / 3_600
    memory = 1.0 + read * figures.TRAINING_BYTES.value / GB
    return Size("training", f"{read:,.0f} events", 1, 2, memory, 20, hours=hours)


def _kafka(shop: Shop, events_s: float) -> Size:
    visitors = shop.daily_visitors
    of_day = visitors * (
        shop.events * figures.EVENT_BYTES.value + shop.lists * figures.SLATE_BYTES.value
    )
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
