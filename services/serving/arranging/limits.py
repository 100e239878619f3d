"""Limits: how many items of a slate may share a value, by caps and by groups."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.serving.arranging.attribute_values import NONE, Entries, Part, entries, values
from services.serving.arranging.candidates import Match, Ranked
from services.serving.columns import Columns
from slipstream.contracts.placements import CapRule


class Limits(NamedTuple):
    """Limited values of candidates.

    Attributes:
        groups: The group of each candidate that has one.
        entries: All limited values, in a part for each limit.
        most: For each limit, how many items of a slate may share a value. The first one is of the
            groups.
        of_caps: The limit of each cap, by the number of its match.
    """

    groups: Part
    entries: Entries
    most: NDArray[np.int64]
    of_caps: dict[int, int]


def limits_of(columns: Columns, ranked: Ranked, group_by: str, matches: Sequence[Match]) -> Limits:
    """The limits of groups and caps. Each of the first 100 values of a list counts.

    Args:
        columns: The attributes.
        ranked: The candidates.
        group_by: The attribute of the groups; empty for none.
        matches: The rules, caps among them. A cap counts the items that it is about.
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
