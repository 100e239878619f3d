"""The catalogue of the simulated shop: categories, departments, brands, prices and names.

Some items appear later.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.random import Generator
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

COMPLEMENTS = 2
# Added to each item's rank, so that Zipf's law does not give a tenth of everything to the first few
# items.
_HEAD = 5
# Items that a brand brings out together, on average.
_COLLECTION = 6
_CENTRAL_PRICE, _CATEGORY_SPREAD, _BRAND_SPREAD, _ITEM_SPREAD = 30.0, 0.8, 0.4, 0.3
_SYLLABLES = "ka lo mi ra te vo su ne di po ga shi be fu ro za el un or wy"
# Departments and kinds of a shop of things, and of one of garments.
_THINGS = (
    "garden kitchen office sports toys music travel beauty pets lighting tools books",
    "bag bowl box brush cable case chair clock cloth cover cup frame glove hook jar kit lamp mat"
    " mirror pad pan pen rack scale set shelf stand table towel tray",
)
_GARMENTS = (
    "women men children sport outdoor",
    "shirt dress jeans coat jacket skirt pullover cardigan blouse trousers shorts hoodie vest polo"
    " jumpsuit leggings suit blazer parka tunic pyjamas robe scarf hat",
)
_COLORS = "black white navy red green beige grey blue pink yellow brown purple"
_MATERIALS = "cotton linen wool denim silk fleece viscose leather"
_SIZES = "S M L"


@dataclass(frozen=True)
class Catalogue:
    """The items by number, in the order of department, category and appearance.

    So the offer of a category at a moment is one range. Arrays have an entry for each item, but
    `department` for each category. `first_item` ends with the number of all.
    Moments are milliseconds since the simulation's start.
    """

    horizon: int
    department: Ints
    first_item: Ints
    category: Ints
    # category x (horizon + 1) + the moment when the item appears, ascending.
    shelf: Ints
    collection: Ints
    # The brand of each collection.
    brand: Ints
    price: Floats
    # How dear an item is for its category, in standard deviations.
    dearness: Floats
    # Popularity by Zipf's law, summed up: 0, then the sum up to each item.
    cumulative: Floats
    # For each item `COMPLEMENTS` that go with it, of other categories, and there whenever it is.
    complements: Ints

    def offered(self, category: Ints, moment: Ints) -> tuple[Ints, Ints]:
        """The range of items on offer in each category at a moment: its first item and its end.

        It has at least one item.
        """
        wanted = category * (self.horizon + 1) + np.minimum(moment, self.horizon)
        return self.first_item[category], np.searchsorted(self.shelf, wanted, side="right")

    def popular(self, rng: Generator, begin: Ints, end: Ints) -> Ints:
        """An item of each range, drawn by popularity."""
        low, high = self.cumulative[begin], self.cumulative[end]
        drawn = (
            np.searchsorted(
                self.cumulative, low + rng.random(begin.shape) * (high - low), side="right"
            )
            - 1
        )
        return np.clip(drawn, begin, end - 1)


def make_catalogue(rng: Generator, items: int, horizon: int, stocked: float) -> Catalogue:
    """Draw a catalogue.

    There are about as many categories as the square root of the items, and as many departments as
    that of the categories, of unequal sizes. `horizon` is in ms; `stocked` is the share of items
    that are there from the start.
    """
    categories = max(1, round(items**0.5))
    departments = max(1, round(categories**0.5))
    department, _ = _grouped(rng, categories, departments)
    category, first_item = _grouped(rng, items, categories)
    appears = np.where(rng.random(items) < stocked, 0, rng.integers(0, horizon, items))
    appears[first_item[:-1]] = 0  # no category is ever empty
    shelf = np.sort(category * (horizon + 1) + appears)

    begins = rng.random(items) < 1 / _COLLECTION
    begins[first_item[:-1]] = True
    collection = np.cumsum(begins) - 1
    brands = max(2, items // 100)
    brand = (brands * rng.random(collection[-1] + 1) ** 2).astype(np.int64)
    dearness = rng.normal(0, _BRAND_SPREAD, brands)[brand[collection]] + rng.normal(
        0, _ITEM_SPREAD, items
    )
    price = _CENTRAL_PRICE * np.exp(
        rng.normal(0, _CATEGORY_SPREAD, categories)[category] + dearness
    )

    weight = (rng.permutation(items).astype(np.float64) + 1 + _HEAD) ** -1.0
    catalogue = Catalogue(
        horizon=horizon,
        department=department,
        first_item=first_item,
        category=category,
        shelf=shelf,
        collection=collection,
        brand=brand,
        price=np.floor(price) + 0.99,
        dearness=dearness / np.hypot(_BRAND_SPREAD, _ITEM_SPREAD),
        cumulative=np.concatenate(([0.0], np.cumsum(weight))),
        complements=np.empty((items, COMPLEMENTS), np.int64),
    )
    steps = rng.integers(1, max(2, categories), (categories, COMPLEMENTS))
    goes_with = (np.arange(categories)[:, None] + steps) % categories
    for column in range(COMPLEMENTS):
        offered = catalogue.offered(goes_with[category, column], shelf % (horizon + 1))
        catalogue.complements[:, column] = catalogue.popular(rng, *offered)
    return catalogue


def item_table(catalogue: Catalogue, item_ids: pa.Array, *, garments: bool = False) -> pa.Table:
    """The item file: `item_id`, `title`, `categories` (department, category), `brand`, `price`.

    Garments have `color`, `size` and `material`, too. Then a collection is one design of one
    material. Its items are the design's colours, each in up to three sizes, which share an
    `item_group_id`.
    """
    kind, categories = _categories(catalogue, *(_GARMENTS if garments else _THINGS))
    brand, collection = _makers(catalogue)
    columns = {"item_id": item_ids, "categories": categories, "brand": brand}
    if garments:
        design = catalogue.collection
        place = np.arange(len(design)) - np.searchsorted(design, design)
        tint, size = np.divmod(place, len(_SIZES.split()))
        for name, names, numbers in (
            ("color", _COLORS.split(), design * 5 + tint),
            ("size", _SIZES.split(), size),
            ("material", _MATERIALS.split(), design),
        ):
            columns[name] = pa.array(names).take(pa.array(numbers % len(names)))
        group = (pa.array(numbers).cast(pa.string()) for numbers in (design, tint))
        columns["item_group_id"] = pc.binary_join_element_wise(*group, "-")
        words = [columns["color"], columns["material"], kind, columns["size"]]
    else:
        number = np.arange(len(item_ids)) - catalogue.first_item[catalogue.category] + 1
        words = [kind, pa.array(number).cast(pa.string())]
    title = pc.binary_join_element_wise(brand, collection, *words, " ")
    return pa.table(columns | {"title": title, "price": catalogue.price})


def _categories(catalogue: Catalogue, departments: str, kinds: str) -> tuple[pa.Array, pa.Array]:
    """The name of each item's category, and the names of department and category."""
    wide = _numbered(departments.split(), int(catalogue.department[-1]) + 1)
    narrow = _numbered(kinds.split(), len(catalogue.department))
    path = np.column_stack(
        (catalogue.department[catalogue.category], len(wide) + catalogue.category)
    )
    paths = pa.array(wide + narrow).take(pa.array(path.ravel()))
    ends = pa.array(np.arange(0, path.size + 1, 2), pa.int32())
    return pa.array(narrow).take(pa.array(catalogue.category)), pa.ListArray.from_arrays(
        ends, paths
    )


def _makers(catalogue: Catalogue) -> tuple[pa.Array, pa.Array]:
    """The names of each item's brand and collection."""
    brands = int(catalogue.brand.max()) + 1
    brand = pa.array([_word(number) for number in range(brands)]).take(
        pa.array(catalogue.brand[catalogue.collection])
    )
    collection = pa.array([_word(brands + number) for number in range(len(catalogue.brand))])
    return brand, collection.take(pa.array(catalogue.collection))


def _numbered(names: list[str], count: int) -> list[str]:
    """`count` different names: the given ones, then the same with a 2, and onwards."""
    rounds = (divmod(number, len(names)) for number in range(count))
    return [names[place] + (f" {before + 1}" if before else "") for before, place in rounds]


def _word(number: int) -> str:
    """A name of two syllables or more."""
    known, word = _SYLLABLES.split(), ""
    rest = number + len(known)
    while rest:
        rest, place = divmod(rest, len(known))
        word += known[place]
    return word.capitalize()


def _grouped(rng: Generator, members: int, groups: int) -> tuple[Ints, Ints]:
    """Groups of unequal sizes, none empty.

    Returns the group of each member, ascending, and each group's first member, then the end.
    """
    share = (np.arange(groups) + 2.0) ** -0.7
    others = rng.choice(groups, members - groups, p=share / share.sum())
    group = np.sort(np.concatenate((np.arange(groups), others)))
    return group, np.searchsorted(group, np.arange(groups + 1))
