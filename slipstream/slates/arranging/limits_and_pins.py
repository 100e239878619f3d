"""Limits of groups and caps, and the pins that take their positions first."""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slipstream.contracts.placements import CapRule, PinRule
from slipstream.slates.arranging.attribute_values import NONE, Entries, Part, entries, values
from slipstream.slates.arranging.pool import Match, Ranked
from slipstream.slates.catalogue.columns import Columns


class Limits(NamedTuple):
    """Limited values of candidates.

    Attributes:
        entries: All limited values, in a part for each limit.
        most: For each limit, how many items of a slate may share a value. The first one is of the
            groups.
    """

    groups: Part
    entries: Entries
    most: NDArray[np.int64]
    of_caps: dict[int, int]


def limits_of(columns: Columns, ranked: Ranked, group_by: str, matches: Sequence[Match]) -> Limits:
    """The limits of groups and caps. Each of the first 100 values of a list counts. `group_by` is
    empty for no groups. A cap counts the items that it is about.
    """
    groups = values(columns, group_by, ranked.rows)
    most, parts, of_caps = [1], [groups], {}
    for number, ((rule, *_), about) in enumerate(matches):
        if isinstance(rule, CapRule):
            found = values(columns, rule.attribute, ranked.rows)
            if rule.filter:
                counted = about[ranked.places]
                found = [(at, np.where(counted[at], keys, NONE)) for at, keys in found]
            parts.append(found)
            of_caps[number] = len(most)
            most.append(rule.most)
    return Limits(groups, entries(parts), np.array(most, np.int64), of_caps)


class Pinned(NamedTuple):
    """The candidates that pins chose, by ranked rows.

    Attributes:
        places: For each place of the slate the row that stands there, -1 for none.
        chosen: The row of each pin by the number of its match, -1 for none; and why it has none, or
            not the place that it asks for.
        missing: The pins that no candidate meets, and that have a place.
    """

    places: NDArray[np.int64]
    chosen: dict[int, tuple[int, str]]
    missing: list[int]


def pinned(matches: Sequence[Match], ranked: Ranked, n: int, groups: Part) -> Pinned:
    """The best candidate of each pin at its position.

    A position that an earlier rule has taken gives way to the next free one, else to the last free
    one before it. A position past the slate's end is its last. Pins share no item and no group.
    """
    places = [-1] * n
    chosen: dict[int, tuple[int, str]] = {}
    missing: list[int] = []
    used, used_groups = set[int](), set[int]()
    for number, ((rule, *_), about) in enumerate(matches):
        if not isinstance(rule, PinRule):
            continue
        wanted = min(rule.position, n) - 1
        order = chain(range(wanted, n), range(wanted - 1, -1, -1))
        place = next((at for at in order if places[at] < 0), None)
        if place is None:
            chosen[number] = -1, "other pins have taken all places"
            continue
        able = np.flatnonzero(about[ranked.places]).tolist()
        if not able:
            missing.append(number)
        chosen[number] = -1, "other pins have taken all that meet the filter"
        for row in able:
            its_groups = {key for at, keys in groups for key in keys[at == row].tolist()} - {NONE}
            if row not in used and used_groups.isdisjoint(its_groups):
                chosen[number] = row, "" if place == wanted else "another pin has its position"
                places[place] = row
                used.add(row)
                used_groups.update(its_groups)
                break
    return Pinned(np.array(places, np.int64), chosen, missing)
