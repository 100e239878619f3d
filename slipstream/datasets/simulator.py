"""The simulated shop as files: the events of months in the common format, and the items.

The shoppers are those of `living_shop`, with the same tastes, purses and rates, and their clock
jumps from visit to visit. A visitor turns to a category by taste, is shown some of what it has,
more often popular items, and views what `LivingShop.attraction` says that this shopper clicks.
Popularity follows Zipf's law, items appear over time, and one shopper after the other changes
tastes.

Visitors are made in portions, so that memory grows with visitors and items, not with events.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.random import Generator

from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.contracts.times import DAY_MS
from slipstream.contracts.vocabulary import CART, IMPRESSION, PURCHASE, VIEW
from slipstream.datasets.living_shop import Habits, LivingShop, examination, visited_by
from slipstream.datasets.simulated_catalogue import (
    COMPLEMENTS,
    Catalogue,
    Flags,
    Ints,
    item_table,
    make_catalogue,
)
from slipstream.datasets.simulated_visits import MOST_A_DAY, Visits, activity, visits

# Items of a list at most.
LENGTH = 10
# What a shopper does with a list, in this order; carts and purchases are of the item and of what
# goes with it.
_DEEDS = (*[IMPRESSION] * LENGTH, VIEW, CART, CART, PURCHASE, PURCHASE)
# The share of the items that are there from the first day; the others appear one by one.
_STOCKED = 0.7
# Share of visitors who have changed their tastes by the last day.
_DRIFT = 0.5
# Views within a visit that turn to another category.
_TURNS = 0.3
# Views that come from a list. The other items are found without one.
_LISTED = 0.4
# Milliseconds from the list to the click.
_AHEAD = 500
# Events that are made at a time, and rows of a row group.
_PORTION = 100_000
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
    # Whether the lists behind some views are written, too, on top of the events.
    impressions: bool = False
    # Whether the items are garments, with colours, sizes and materials.
    garments: bool = False
    habits: Habits = field(default_factory=Habits)
    # Carts and purchases that are followed by the same of what goes with the item.
    together: float = 0.0

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
class SimulatedFiles:
    """The files, and how many events of each type are in them."""

    interactions: Path
    items: Path
    by_type: Counter[str]


def simulate(
    folder: Path, simulation: Simulation, progress: Progress = lambda _: None
) -> SimulatedFiles:
    """Write `interactions.parquet` and `items.parquet` into a folder, which is made if needed.

    Every visitor has an event, not every item has. Events go by visitor, then time; two of a
    visitor are a second or more apart, two visits more than half an hour. Carts and purchases have
    a `value`, views have none. A visit that begins on the last day may end after it. With
    impressions, `recommendation_id` and `position` name the list and place of each impression and
    view.

    In the end both files are there, or none. Raises FileExistsError where one is there already.
    """
    files = SimulatedFiles(folder / "interactions.parquet", folder / "items.parquet", Counter())
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng((simulation.seed, 0))
    catalogue = make_catalogue(rng, simulation.items, simulation.days * DAY_MS, _STOCKED)
    counts = activity(rng, simulation.visitors, simulation.events, simulation.days)
    shop = visited_by(rng, simulation.seed, 1, catalogue, (), simulation.habits)
    done = 0
    with (
        _whole(files.interactions, files.items) as (interactions, items),
        pq.ParquetWriter(interactions, _SHOWN if simulation.impressions else _SCHEMA) as writer,
    ):
        pq.write_table(
            item_table(
                catalogue, _ids("i", np.arange(simulation.items)), garments=simulation.garments
            ),
            items,
        )
        for number, portion in enumerate(_portions(counts)):
            rng = np.random.default_rng((simulation.seed, 1, number))
            came = visits(rng, counts[portion], simulation.days)
            shoppers = len(counts[portion])
            drawn = visited_by(rng, simulation.seed, shoppers, catalogue, (), simulation.habits)
            shared = replace(drawn, appeal=shop.appeal, appeal_after=shop.appeal_after)
            table = _events(rng, shared, catalogue, came, simulation, portion.start, done)
            writer.write_table(table.select(writer.schema.names).cast(writer.schema))
            files.by_type.update(table["event_type"].to_pylist())
            done += len(came.moment)
            progress(ProgressStep("events", done, simulation.events))
    return files


def _portions(counts: Ints) -> Iterator[slice]:
    """The visitors, in portions of about `_PORTION` events."""
    until = np.cumsum(counts)
    bounds = np.searchsorted(until, np.arange(_PORTION, until[-1], _PORTION), side="right")
    for begin, end in pairwise(np.unique(np.concatenate(([0], bounds, [len(counts)]))).tolist()):
        yield slice(begin, end)


def _events(
    rng: Generator,
    shop: LivingShop,
    catalogue: Catalogue,
    came: Visits,
    simulation: Simulation,
    first_visitor: int,
    first_event: int,
) -> pa.Table:
    """The events of the visits, with all columns. `shop` and `came` are those of a portion, whose
    visitors and events count from these numbers.
    """
    visit = np.repeat(np.arange(len(came.length)), came.length)
    who, count = came.visitor[visit], len(visit)
    # As many looks around as there are events: some have no time left, when others have carts.
    turn = rng.random(count) < _TURNS
    turn[came.first_event] = True
    # A visitor stays in a category, with the tastes of that moment, until the next turn.
    last_turn = np.maximum.accumulate(np.where(turn, np.arange(count), 0))
    changed = rng.random(count) < _DRIFT * came.moment / catalogue.horizon
    changed, category = changed[last_turn], _categories(rng, shop, who, changed)[last_turn]
    offer = catalogue.offered(category, came.moment)
    shown = np.column_stack([catalogue.popular(rng, *offer) for _ in range(LENGTH)])
    different = _different(shown)
    place = np.cumsum(different, axis=1) - 1
    attraction, other = (
        shop.attraction(who[:, None], shown, shifted=shifted) for shifted in (False, True)
    )
    wanted = np.where(changed[:, None], other, attraction) * different
    wanted *= examination(shop.habits, LENGTH)[place]
    # One click in each list, by the share of its place in the probabilities of all places.
    until = np.cumsum(wanted, axis=1)
    column = np.sum(until <= rng.random((count, 1)) * until[:, -1:], axis=1)
    item, place_of_item = (of[np.arange(count), column] for of in (shown, place))

    listed = rng.random(count) < _LISTED
    carted = rng.random(count) < shop.habits.cart * shop.fit(who, item)
    bought = carted & (rng.random(count) < shop.habits.checkout)
    joined = rng.random(count) < simulation.together
    companion = catalogue.complements[item, rng.integers(0, COMPLEMENTS, count)]
    items = np.column_stack((shown, item, item, companion, item, companion))
    positions = np.column_stack((place, place_of_item))
    shows = different & listed[:, None] & simulation.impressions
    does = (np.ones(count, np.bool_), carted, carted & joined, bought, bought & joined)
    acts = np.column_stack((np.zeros_like(shows), *does))
    # A visit ends with its last event: what would come after it falls away.
    before = (np.cumsum(acts) - acts.ravel()).reshape(acts.shape)
    since = before[came.first_event, LENGTH][visit]
    within = before - since[:, None] < came.length[visit][:, None]
    acts[:, :LENGTH] = shows
    row, deed = np.nonzero(acts & within)
    impression, in_list = deed < LENGTH, listed[row] & (deed <= LENGTH)
    number: Ints = np.cumsum(~impression) - ~impression
    did = items[row, deed]
    return pa.table(
        {
            "user_id": _ids("u", who[row] + first_visitor),
            "item_id": _ids("i", did),
            "event_type": pa.array(_DEEDS).take(pa.array(deed)),
            "timestamp": came.moment[number] + simulation.start - _AHEAD * impression,
            "value": pa.array(catalogue.price[did], mask=deed <= LENGTH),
            "recommendation_id": _ids("s", np.ma.array(row + first_event, mask=~in_list)),
            "position": pa.array(positions[row, np.minimum(deed, LENGTH)], mask=~in_list),
        }
    )


def _categories(rng: Generator, shop: LivingShop, shopper: Ints, changed: Flags) -> Ints:
    """A category that each shopper turns to, by the tastes of before or after the change."""
    chance, drawn = rng.random(len(shopper)), []
    for shifted in (False, True):
        until = np.cumsum(shop.tastes(shifted=shifted), axis=1)
        until = until / until[:, -1:] + np.arange(shop.shoppers)[:, None]
        place = np.searchsorted(until.ravel(), shopper + chance, side="right")
        drawn.append(np.minimum(place - shopper * until.shape[1], until.shape[1] - 1))
    category: Ints = np.where(changed, drawn[1], drawn[0])
    return category


def _different(shown: Ints) -> Flags:
    """The first place of each different item of a row."""
    order = np.argsort(shown, axis=1, kind="stable")
    ascending = np.take_along_axis(shown, order, axis=1)
    new = np.ones(shown.shape, np.bool_)
    np.put_along_axis(new, order[:, 1:], ascending[:, 1:] != ascending[:, :-1], axis=1)
    return new


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
