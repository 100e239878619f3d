"""A simulated shop: the events and items of visitors who never were, as files in the common format.

It is made so that recommenders differ on it. Popularity follows Zipf's law, and items appear over
time. Visitors have favourite categories, most in one department, that change slowly, and a liking
for brands that they share with others. A visit has an order: on to a similar item, to a complement,
back to the item before, away to something else, into the cart, and sometimes to a purchase.
`simulated_catalogue` and `simulated_visits` draw it.

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
from numpy.random import Generator

from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.datasets.simulated_catalogue import (
    COMPLEMENTS,
    Catalogue,
    Flags,
    Floats,
    Ints,
    garment_table,
    item_table,
    make_catalogue,
)
from slipstream.datasets.simulated_visits import (
    DAY,
    MOST_A_DAY,
    NONE,
    TYPES,
    Behaviour,
    Events,
    Kind,
    Visits,
    activity,
    visits,
    with_slates,
)

_ALIKE, _COMPLEMENT, _BACK, _BROWSE = range(4)
_SEGMENTS = 24
# Share of looks into each of a visitor's favourite categories.
_FAVOURITES = (0.55, 0.3, 0.15)


@dataclass(frozen=True)
class Shoppers:
    """The tastes of visitors."""

    catalogue: Catalogue
    behaviour: Behaviour
    # segments x brands: visitors of a segment like the same brands.
    likings: Floats
    segment: Ints
    # The dearness that each visitor likes best.
    budget: Floats
    # visitors x 2 (at first, later) x categories.
    favourites: Ints

    @classmethod
    def of(
        cls, rng: Generator, count: int, catalogue: Catalogue, behaviour: Behaviour, likings: Floats
    ) -> "Shoppers":
        """Draw the tastes of `count` visitors; all share `likings`."""
        shape = (count, 2, len(_FAVOURITES))
        home = np.broadcast_to(
            catalogue.department[catalogue.any_category(rng, (count, 1, 1))], shape
        )
        loyal = rng.random(shape) < behaviour.loyalty
        favourites = np.where(
            loyal, catalogue.category_in(rng, home), catalogue.any_category(rng, shape)
        )
        return cls(
            catalogue,
            behaviour,
            likings,
            rng.integers(0, len(likings), count),
            rng.normal(0, 1, count),
            favourites,
        )

    def category(self, rng: Generator, visitor: Ints, moment: Ints) -> Ints:
        """A category that each visitor turns to."""
        later = rng.random(len(visitor)) < self.behaviour.drift * moment / self.catalogue.horizon
        which = rng.choice(len(_FAVOURITES), len(visitor), p=_FAVOURITES)
        favourite = self.favourites[visitor, later.astype(np.int64), which]
        explores = rng.random(len(visitor)) < self.behaviour.exploration
        return np.where(explores, self.catalogue.any_category(rng, visitor.shape), favourite)

    def choice(self, rng: Generator, visitor: Ints, category: Ints, moment: Ints) -> Ints:
        """An item of each category: the better liked of two draws.

        Both are popular items, or one is popular and one new.
        """
        begin, end = self.catalogue.offered(category, moment)
        one, other = (
            self.catalogue.popular(rng, begin, end),
            self.catalogue.popular(rng, begin, end),
        )
        other = np.where(
            rng.random(len(other)) < self.behaviour.novelty,
            self.catalogue.newest(rng, begin, end),
            other,
        )
        better = (
            self._liking(visitor, one) - self._liking(visitor, other) + rng.logistic(0, 1, len(one))
            > 0
        )
        return np.where(better, one, other)

    def _liking(self, visitor: Ints, item: Ints) -> Floats:
        brand = self.catalogue.brand[self.catalogue.collection[item]]
        misfit = np.abs(self.catalogue.dearness[item] - self.budget[visitor])
        return self.behaviour.taste * (self.likings[self.segment[visitor], brand] - misfit)

    def carts(self, rng: Generator, visitor: Ints, item: Ints) -> Flags:
        """Whether each visitor puts the item into the cart."""
        dearer = self.catalogue.dearness[item] - self.budget[visitor]
        return rng.random(len(item)) < self.behaviour.carting * np.exp(-0.3 * dearer)

    def next_view(
        self,
        rng: Generator,
        visitor: Ints,
        item: Ints,
        before: Ints,
        after_cart: Flags,
        moment: Ints,
    ) -> Ints:
        """The item that each visitor views next.

        Args:
            rng: Source of chance.
            visitor: The visitors.
            item: The item that each viewed last.
            before: The item viewed before it; at the first view of a visit the item itself.
            after_cart: Whether a cart or purchase came between.
            moment: The time of the view.
        """
        rates = np.cumsum(
            (
                self.behaviour.alike,
                self.behaviour.complement,
                self.behaviour.back,
                self.behaviour.browse,
            )
        )
        way = np.searchsorted(rates, rng.random(len(item)), side="right")
        way[after_cart & (rng.random(len(item)) < self.behaviour.after_cart)] = _COMPLEMENT
        way[(way == _BACK) & (before == item)] = _BROWSE
        following = before.copy()
        on = np.flatnonzero(way == _ALIKE)
        following[on] = self.catalogue.alike(rng, item[on], moment[on])
        on = np.flatnonzero(way == _COMPLEMENT)
        following[on] = self.catalogue.complements[item[on], rng.integers(0, COMPLEMENTS, len(on))]
        on = np.flatnonzero(way >= _BROWSE)
        turns = self.category(rng, visitor[on], moment[on])
        category = np.where(way[on] == _BROWSE, self.catalogue.category[item[on]], turns)
        following[on] = self.choice(rng, visitor[on], category, moment[on])
        return following


def brand_likings(rng: Generator, catalogue: Catalogue) -> Floats:
    """The liking of each segment of visitors for each brand, in standard deviations."""
    return rng.normal(0, 1, (_SEGMENTS, int(catalogue.brand.max()) + 1))


def browse(rng: Generator, shoppers: Shoppers, came: Visits, moments: Ints) -> Events:
    """The events of the visits, one at each of the moments; all visits advance in step."""
    catalogue, behaviour = shoppers.catalogue, shoppers.behaviour
    viewed = shoppers.choice(
        rng, came.visitor, shoppers.category(rng, came.visitor, came.begins), came.begins
    )
    resumes = (rng.random(len(viewed)) < behaviour.resumption) & (
        np.diff(came.visitor, prepend=-1) == 0
    )
    viewed = viewed[np.maximum.accumulate(np.where(resumes, 0, np.arange(len(viewed))))]
    before, in_cart, last = (
        viewed.copy(),
        np.full(len(viewed), NONE),
        np.full(len(viewed), Kind.VIEW),
    )
    item, kind = np.repeat(viewed, came.length), np.full(len(moments), Kind.VIEW)
    # What went into the cart or was bought last, apart from what went with it.
    chosen = viewed.copy()
    # A stream of its own, so that shops without such baskets stay as they are.
    chance = rng.spawn(1)[0]
    for step in range(1, int(came.length.max())):
        on = np.flatnonzero(came.length > step)
        joins = (last[on] != Kind.VIEW) & (chance.random(len(on)) < behaviour.together)
        buys = ~joins & (in_cart[on] != NONE) & (rng.random(len(on)) < behaviour.checkout)
        carts = (
            ~(joins | buys)
            & (last[on] == Kind.VIEW)
            & shoppers.carts(rng, came.visitor[on], viewed[on])
        )
        looks = on[~(joins | buys | carts)]
        after_cart = last[looks] != Kind.VIEW
        following = shoppers.next_view(
            rng, came.visitor[looks], viewed[looks], before[looks], after_cart, came.begins[looks]
        )
        before[looks], viewed[looks] = viewed[looks], following
        does = np.where(buys, Kind.PURCHASE, np.where(carts, Kind.CART, Kind.VIEW))
        last[on] = np.where(joins, last[on], does)
        chosen[on] = np.where(buys, in_cart[on], np.where(carts, viewed[on], chosen[on]))
        companion = catalogue.complements[chosen[on], step % COMPLEMENTS]
        event = came.first_event[on] + step
        item[event] = np.where(joins, companion, np.where(buys, in_cart[on], viewed[on]))
        kind[event] = last[on]
        in_cart[on] = np.where(buys, NONE, np.where(carts, viewed[on], in_cart[on]))
    quantity = np.where(kind == Kind.PURCHASE, rng.geometric(0.9, len(kind)), 1)
    value = np.where(kind == Kind.VIEW, np.nan, np.round(catalogue.price[item] * quantity, 2))
    none = np.full(len(moments), NONE)
    return Events(np.repeat(came.visitor, came.length), item, kind, moments, value, none, none)


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
    # Whether the items are garments, with colours, sizes and materials.
    garments: bool = False
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
    view: see `with_slates`.

    In the end both files are there, or none. Raises FileExistsError where one is there already.
    """
    files = SimulatedFiles(folder / "interactions.parquet", folder / "items.parquet", Counter())
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
        table_of = garment_table if simulation.garments else item_table
        pq.write_table(table_of(catalogue, item_ids), items)
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
