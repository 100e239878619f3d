"""Tiles: counts by time, in whole five minutes, hours or days since the epoch.

Only the newest tiles are kept, counted from the newest event, never from a clock. So the order in
which events arrive does not change a state. A window that ends at a moment is the tile of that
moment and those before it: 24 hours in hour tiles are this hour and the 23 before it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from slipstream.contracts.vocabulary import CART, CLICK, IMPRESSION, PURCHASE, VIEW

# Counts are kept by group: each of these types has one, and all other types share one.
GROUP_OF: Final = {VIEW: 0, CLICK: 1, CART: 2, PURCHASE: 3, IMPRESSION: 4}
OTHER: Final = 5
_GROUPS: Final = 6
ALL_BUT_IMPRESSIONS: Final = tuple(
    group for group in range(_GROUPS) if group != GROUP_OF[IMPRESSION]
)
# The name of a type's counts.
OF_TYPE: Final = {
    "views": VIEW,
    "clicks": CLICK,
    "carts": CART,
    "purchases": PURCHASE,
    "impressions": IMPRESSION,
}


class TileSize(NamedTuple):
    """Length of a tile in ms, and the number of tiles kept."""

    ms: int
    kept: int


@dataclass(slots=True)
class Tiles:
    """Counts in tiles of one size.

    `counts` has a list for each group, oldest tile first. Its last entry is tile number `newest`
    (since the epoch), its first is not zero; without events there are no lists. Copies share the
    inner lists, which are replaced when they change.
    """

    newest: int = 0
    counts: list[list[int]] = field(default_factory=list)

    def copy(self) -> "Tiles":
        return Tiles(self.newest, self.counts.copy())


def add(tiles: Tiles, size: TileSize, timestamp: int, group: int, number: int = 1) -> None:
    """Add events to a tile, in place; drops those older than the oldest tile kept. `group` is one
    of `GROUP_OF`; `number` is over 0.
    """
    _add(tiles, timestamp // size.ms, size.kept, group, number)


def join(tiles: Tiles, other: Tiles, size: TileSize) -> Tiles:
    """The sum of both, as if all events had been added to one."""
    joined = tiles.copy()
    for group, column in enumerate(other.counts):
        for place, number in enumerate(column):
            if number:
                _add(joined, other.newest - len(column) + 1 + place, size.kept, group, number)
    return joined


def total(tiles: Tiles, groups: Iterable[int], until: int, length: int) -> int:
    """The number of events of these groups in tile `until` and the `length` - 1 before it."""
    beyond = tiles.newest - until
    if not tiles.counts or length + beyond <= 0:
        return 0
    columns = [tiles.counts[group] for group in groups]
    if beyond <= 0:
        return sum([sum(column[-length - beyond :]) for column in columns if column])
    return sum([sum(column[-length - beyond : -beyond]) for column in columns if column])


def _add(tiles: Tiles, at: int, kept: int, group: int, number: int) -> None:
    if not tiles.counts:
        tiles.newest, tiles.counts = at, [[] for _ in range(_GROUPS)]
    back = tiles.newest - at
    if back < 0:
        _move(tiles, at, kept)
        back = 0
    if back >= kept:
        return
    column = tiles.counts[group]
    column = [0] * (back + 1 - len(column)) + column
    column[-1 - back] += number
    tiles.counts[group] = column


def _move(tiles: Tiles, newest: int, kept: int) -> None:
    """Make `newest` the last tile."""
    empty = [0] * min(newest - tiles.newest, kept)
    tiles.newest = newest
    for group, column in enumerate(tiles.counts):
        if column:
            moved = (column + empty)[-kept:]
            first = next((place for place, number in enumerate(moved) if number), kept)
            tiles.counts[group] = moved[first:]
