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
_SYLLABLES = (
    "ka",
    "lo",
    "mi",
    "ra",
    "te",
    "vo",
    "su",
    "ne",
    "di",
    "po",
    "ga",
    "shi",
    "be",
    "fu",
    "ro",
    "za",
    "el",
    "un",
    "or",
    "wy",
)
_DEPARTMENTS = (
    "garden",
    "kitchen",
    "office",
    "sports",
    "toys",
    "music",
    "travel",
    "beauty",
    "pets",
    "lighting",
    "tools",
    "books",
)
_KINDS = (
    *(
        "bag",
        "bowl",
        "box",
        "brush",
        "cable",
        "case",
        "chair",
        "clock",
        "cloth",
        "cover",
        "cup",
        "frame",
        "glove",
        "hook",
        "jar",
    ),
    *(
        "kit",
        "lamp",
        "mat",
        "mirror",
        "pad",
        "pan",
        "pen",
        "rack",
        "scale",
        "set",
        "shelf",
        "stand",
        "table",
        "towel",
        "tray",
    ),
)


# The same of the garments.
_WEARERS = ("women", "men", "children", "sport", "outdoor")
_GARMENTS = (
    *("shirt", "dress", "jeans", "coat", "jacket", "skirt", "pullover", "cardigan"),
    *("blouse", "trousers", "shorts", "hoodie", "vest", "polo", "jumpsuit", "leggings"),
    *("suit", "blazer", "parka", "tunic", "pyjamas", "robe", "scarf", "hat"),
)
_COLORS = (
    *("black", "white", "navy", "red", "green", "beige"),
    *("grey", "blue", "pink", "yellow", "brown", "purple"),
)
_MATERIALS = ("cotton", "linen", "wool", "denim", "silk", "fleece", "viscose", "leather")
_SIZES = ("S", "M", "L")


@dataclass(frozen=True)
class Catalogue:
    """The items by number, in the order of department, category and appearance.

    So the offer of a category at a moment is one range. Arrays have an entry for each item, but
    `department` for each category. `first_item` and `first_category` end with the number of all.
    Moments are milliseconds since the simulation's start.
    """

    horizon: int
    department: Ints
    first_category: Ints
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
    # Popularity, by Zipf's law.
    weight: Floats
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

    def newest(self, rng: Generator, begin: Ints, end: Ints) -> Ints:
        """An item of each range, most likely from the twentieth that appeared last."""
        back = rng.exponential(0.05, len(begin)) * (end - begin)
        return np.maximum(end - 1 - back.astype(np.int64), begin)

    def category_in(self, rng: Generator, department: Ints) -> Ints:
        """A category of each department, drawn by the popularity of its items."""
        begin, end = self.first_category[department], self.first_category[department + 1]
        return self.category[self.popular(rng, self.first_item[begin], self.first_item[end])]

    def any_category(self, rng: Generator, shape: tuple[int, ...]) -> Ints:
        """Categories in an array of this shape, drawn by the popularity of their items."""
        return self.category[
            self.popular(rng, np.zeros(shape, np.int64), np.full(shape, len(self.category)))
        ]

    def alike(self, rng: Generator, item: Ints, moment: Ints) -> Ints:
        """A neighbour of each item in its category, the more popular of two draws.

        It is near the item in the order of appearance, rather after than before. In a small
        category it may be the item itself.
        """
        begin, end = self.offered(self.category[item], moment)
        hops = rng.geometric(0.5, (2, len(item))) * np.where(
            rng.random((2, len(item))) < 0.8, 1, -1
        )
        inside = (item + hops >= begin) & (item + hops < end)
        one, other = np.clip(np.where(inside, item + hops, item - hops), begin, end - 1)
        neighbour: Ints = np.where(self.weight[one] >= self.weight[other], one, other)
        return neighbour


def make_catalogue(
    rng: Generator, items: int, horizon: int, zipf: float, stocked: float
) -> Catalogue:
    """Draw a catalogue.

    There are about as many categories as the square root of the items, and as many departments as
    that of the categories, of unequal sizes.

    Args:
        rng: Source of chance.
        items: Number of items.
        horizon: Length of the simulation, in ms.
        zipf: Exponent of popularity, on which nothing else of an item depends.
        stocked: Share of the items that is there from the start.
    """
    categories = max(1, round(items**0.5))
    departments = max(1, round(categories**0.5))
    department, first_category = _grouped(rng, categories, departments)
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

    weight = (rng.permutation(items).astype(np.float64) + 1 + _HEAD) ** -zipf
    catalogue = Catalogue(
        horizon=horizon,
        department=department,
        first_category=first_category,
        first_item=first_item,
        category=category,
        shelf=shelf,
        collection=collection,
        brand=brand,
        price=np.floor(price) + 0.99,
        dearness=dearness / np.hypot(_BRAND_SPREAD, _ITEM_SPREAD),
        weight=weight,
        cumulative=np.concatenate(([0.0], np.cumsum(weight))),
        complements=np.empty((items, COMPLEMENTS), np.int64),
    )
    steps = rng.integers(1, max(2, categories), (categories, COMPLEMENTS))
    goes_with = (np.arange(categories)[:, None] + steps) % categories
    for column in range(COMPLEMENTS):
        offered = catalogue.offered(goes_with[category, column], shelf % (horizon + 1))
        catalogue.complements[:, column] = catalogue.popular(rng, *offered)
    return catalogue


def item_table(catalogue: Catalogue, item_ids: pa.Array) -> pa.Table:
    """The item file: `item_id`, `title`, `categories` (department, category), `brand`, `price`."""
    kind, categories = _categories(catalogue, _DEPARTMENTS, _KINDS)
    brand, collection = _makers(catalogue)
    number = pa.array(np.arange(len(item_ids)) - catalogue.first_item[catalogue.category] + 1).cast(
        pa.string()
    )
    return pa.table(
        {
            "item_id": item_ids,
            "title": pc.binary_join_element_wise(brand, collection, kind, number, " "),
            "categories": categories,
            "brand": brand,
            "price": pa.array(catalogue.price),
        }
    )


def garment_table(catalogue: Catalogue, item_ids: pa.Array) -> pa.Table:
    """The item file of a shop of garments: `item_table`'s columns, `color`, `size`, `material`.

    A collection is one design of one material. Its items are the design's colours, each in up to
    three sizes, which share an `item_group_id`.
    """
    kind, categories = _categories(catalogue, _WEARERS, _GARMENTS)
    brand, collection = _makers(catalogue)
    design = catalogue.collection
    place = np.arange(len(design)) - np.searchsorted(design, design)
    tint, size = np.divmod(place, len(_SIZES))
    color, material = (
        pa.array(names).take(pa.array(numbers % len(names)))
        for names, numbers in ((_COLORS, design * 5 + tint), (_MATERIALS, design))
    )
    sizes = pa.array(_SIZES).take(pa.array(size))
    title = pc.binary_join_element_wise(brand, collection, color, material, kind, sizes, " ")
    return pa.table(
        {
            "item_id": item_ids,
            "title": title,
            "categories": categories,
            "brand": brand,
            "color": color,
            "size": sizes,
            "material": material,
            "item_group_id": pc.binary_join_element_wise(
                *(pa.array(numbers).cast(pa.string()) for numbers in (design, tint)), "-"
            ),
            "price": pa.array(catalogue.price),
        }
    )


def _categories(
    catalogue: Catalogue, departments: tuple[str, ...], kinds: tuple[str, ...]
) -> tuple[pa.Array, pa.Array]:
    """The name of each item's category, and the names of department and category."""
    wide = _numbered(departments, len(catalogue.first_category) - 1)
    narrow = _numbered(kinds, len(catalogue.department))
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


def _numbered(names: tuple[str, ...], count: int) -> list[str]:
    """`count` different names: the given ones, then the same with a 2, and onwards."""
    rounds = (divmod(number, len(names)) for number in range(count))
    return [names[place] + (f" {before + 1}" if before else "") for before, place in rounds]


def _word(number: int) -> str:
    """A name of two syllables or more."""
    syllables, rest = [], number + len(_SYLLABLES)
    while rest:
        rest, place = divmod(rest, len(_SYLLABLES))
        syllables.append(_SYLLABLES[place])
    return "".join(syllables).capitalize()


def _grouped(rng: Generator, members: int, groups: int) -> tuple[Ints, Ints]:
    """Groups of unequal sizes, none empty.

    Returns the group of each member, ascending, and each group's first member, then the end.
    """
    share = (np.arange(groups) + 2.0) ** -0.7
    others = rng.choice(groups, members - groups, p=share / share.sum())
    group = np.sort(np.concatenate((np.arange(groups), others)))
    return group, np.searchsorted(group, np.arange(groups + 1))
