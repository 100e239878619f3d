"""A simulated shop: the events and items of visitors who never were, as files in the common format.

It is made so that recommenders differ on it. Popularity follows Zipf's law, and items appear over
time. Visitors have favourite categories, most in one department, that change slowly, and a liking
for brands that they share with others. A visit has an order: on to a similar item, to a complement,
back to the item before, away to something else, into the cart, and sometimes to a purchase.
`simulated_catalogue`, `simulated_visits` and `simulated_slates` draw it.

Visitors are made in portions, so that memory grows with visitors and items, not with events.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.datasets.simulated_catalogue import Ints, item_table, make_catalogue
from slipstream.datasets.simulated_slates import with_slates
from slipstream.datasets.simulated_visits import (
    DAY,
    MOST_A_DAY,
    NONE,
    TYPES,
    Behaviour,
    Events,
    Shoppers,
    activity,
    brand_likings,
    browse,
    visits,
)

# Events that are made at a time, and rows of a row group.
_PORTION = 400_000
_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("event_type", pa.string()),
        ("timestamp", pa.int64()),
        ("value", pa.float64()),
    ]
)
_SHOWN = pa.schema([*_SCHEMA, ("recommendation_id", pa.string()), ("position", pa.int32())])


@dataclass(frozen=True)
class Simulation:
    """The parameters of a simulation. The same ones give the same files.

    Raises ValueError, with what to change, for numbers that don't fit.
    """

    visitors: int
    items: int
    events: int
    seed: int = 0
    days: int = 90
    # Midnight before the first day, in milliseconds since the epoch, UTC; Monday 2025-01-06.
    start: int = 1_736_121_600_000
    # The exponent of the items' popularity.
    zipf: float = 1.0
    # The share of the items that are there from the first day; the others appear one by one.
    stocked: float = 0.7
    # Whether the lists behind some views are written, too, on top of the events.
    impressions: bool = False
    behaviour: Behaviour = field(default_factory=Behaviour)

    def __post_init__(self) -> None:
        for name in ("visitors", "items", "events", "days"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.events < self.visitors:
            raise ValueError(
                f"{self.events:,} events are too few for {self.visitors:,} visitors: "
                "each has one or more"
            )
        if self.events > self.visitors * self.days * MOST_A_DAY // 2:
            raise ValueError(
                f"{self.events:,} events are too many for {self.visitors:,} visitors "
                f"in {self.days} days: take more visitors or "
                f"days; {MOST_A_DAY // 2} events a visitor and day is the most"
            )


@dataclass(frozen=True)
class Simulated:
    """The files, and how many events of each type are in them."""

    interactions: Path
    items: Path
    by_type: Counter[str]


def simulate(
    folder: Path, simulation: Simulation, progress: Progress = lambda _: None
) -> Simulated:
    """Write `interactions.parquet` and `items.parquet` into a folder, which is made if needed.

    Every visitor has an event, not every item has. Events go by visitor, then time; two of a
    visitor are a second or more apart, two visits more than half an hour. Carts and purchases have
    a `value`, views have none. A visit that begins on the last day may end after it. With
    impressions, `recommendation_id` and `position` name the list and place of each impression and
    view: see `with_slates`.

    In the end both files are there, or none. Raises FileExistsError where one is there already.
    """
    files = Simulated(folder / "interactions.parquet", folder / "items.parquet", Counter())
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng((simulation.seed, 0))
    catalogue = make_catalogue(
        rng, simulation.items, simulation.days * DAY, simulation.zipf, simulation.stocked
    )
    likings = brand_likings(rng, catalogue)
    counts, once = activity(
        rng, simulation.visitors, simulation.events, simulation.days, simulation.behaviour
    )
    item_ids = _ids("i", np.arange(simulation.items))
    schema = _SHOWN if simulation.impressions else _SCHEMA
    done = 0
    with (
        _whole(files.interactions, files.items) as (interactions, items),
        pq.ParquetWriter(interactions, schema) as writer,
    ):
        pq.write_table(item_table(catalogue, item_ids), items)
        for number, portion in enumerate(_portions(counts)):
            rng = np.random.default_rng((simulation.seed, 1, number))
            came, moments = visits(
                rng, counts[portion], once[portion], simulation.days, simulation.behaviour
            )
            shoppers = Shoppers.of(
                rng, len(counts[portion]), catalogue, simulation.behaviour, likings
            )
            events = browse(rng, shoppers, came, moments)
            if simulation.impressions:
                events = with_slates(rng, catalogue, events)
            table = _table(events, portion.start, done, simulation.start, item_ids)
            writer.write_table(table.select(schema.names).cast(schema))
            for kind, count in zip(*np.unique(events.kind, return_counts=True), strict=True):
                files.by_type[TYPES[kind]] += int(count)
            done += len(moments)
            progress(ProgressStep("events", done, simulation.events))
    return files


def _portions(counts: Ints) -> Iterator[slice]:
    """The visitors, in portions of about `_PORTION` events."""
    until = np.cumsum(counts)
    bounds = np.searchsorted(until, np.arange(_PORTION, until[-1], _PORTION), side="right")
    for begin, end in pairwise(np.unique(np.concatenate(([0], bounds, [len(counts)]))).tolist()):
        yield slice(begin, end)


def _table(
    events: Events, first_visitor: int, first_event: int, start: int, item_ids: pa.Array
) -> pa.Table:
    """The events as a table of all columns; NaN and `NONE` become null.

    Args:
        events: The events of a portion.
        first_visitor: Number of the portion's first visitor.
        first_event: Number of the portion's first event.
        start: Start of the simulation, in ms since the epoch.
        item_ids: Ids by item.
    """
    shown = events.slate != NONE
    return pa.table(
        {
            "user_id": _ids("u", events.visitor + first_visitor),
            "item_id": item_ids.take(pa.array(events.item)),
            "event_type": pa.array(TYPES).take(pa.array(events.kind)),
            "timestamp": pa.array(events.moment + start),
            "value": pa.array(events.value, from_pandas=True),
            "recommendation_id": _ids("s", np.ma.array(events.slate + first_event, mask=~shown)),
            "position": pa.array(events.position, mask=~shown),
        }
    )


def _ids(prefix: str, numbers: Ints) -> pa.Array:
    return pc.binary_join_element_wise(prefix, pa.array(numbers).cast(pa.string()), "")


@contextmanager
def _whole(*paths: Path) -> Iterator[list[Path]]:
    """Temporary paths for the files, which get their names only when both are whole.

    Raises FileExistsError.
    """
    for path in paths:
        if path.exists():
            raise FileExistsError(f"{path} is there already: name another folder, or remove it")
    parts = [path.with_name(f"{path.name}.part") for path in paths]
    try:
        yield parts
        for part, path in zip(parts, paths, strict=True):
            part.rename(path)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
