"""Impressions of a visitor: the items that were shown lately, each with its moment.

The newest ones are kept, by event time. So the list is the same in every order of arrival, and the
list of a merged visitor is made of the lists of both.
"""

from typing import Final, NamedTuple

IMPRESSIONS_KEPT: Final = 100


class Impression(NamedTuple):
    """Item that was shown at a time, in ms. Impressions stand by time, then by item id."""

    timestamp: int
    item_id: str


def newest(impressions: list[Impression], others: list[Impression]) -> list[Impression]:
    """The newest `IMPRESSIONS_KEPT` of both lists, oldest first. The given lists stay as they are.

    Args:
        impressions: impressions in order, and at most `IMPRESSIONS_KEPT`.
        others: more impressions, in any order.
    """
    return sorted(impressions + others)[-IMPRESSIONS_KEPT:] if others else impressions
