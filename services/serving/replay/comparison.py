"""Comparison of two lists of items: where they first differ, and what happened to each item."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Final, Protocol

from pydantic import BaseModel, Field

# Scores that differ by less are the same: their sums may be made in another order.
SAME_SCORE: Final = 1e-5


class ScoredItem(Protocol):
    """An item of a list."""

    @property
    def item_id(self) -> str: ...

    @property
    def score(self) -> float: ...


class PlacedItem(BaseModel):
    """An item at its place."""

    item_id: str
    score: float


class Difference(BaseModel):
    """The first place, from 1, at which two lists differ; null stands for the end of a list."""

    place: int
    recorded: PlacedItem | None
    rebuilt: PlacedItem | None


class ItemChange(BaseModel):
    """An item of one of two lists. Places count from 1; null where the item is not in the list.

    `moved` is the number of places that it rose, negative where it sank; null where it came or
    went.
    """

    item_id: str
    place_before: int | None
    place_after: int | None
    score_before: float | None
    score_after: float | None
    moved: int | None


class ListDiff(BaseModel):
    """The changes from one list to another.

    `items` are those of the list after, then those that left, each in its list's order.
    """

    entered: list[str] = Field(description="items that only the list after has")
    left: list[str] = Field(description="items that only the list before has")
    same_order: bool = Field(description="whether both have the same items in the same order")
    items: list[ItemChange]


def first_difference(
    recorded: Sequence[ScoredItem], rebuilt: Sequence[ScoredItem]
) -> Difference | None:
    """The first place at which items differ, or scores by more than `SAME_SCORE`; None for none."""
    for place, (one, other) in enumerate(zip_longest(recorded, rebuilt), 1):
        if (
            one is None
            or other is None
            or one.item_id != other.item_id
            or abs(one.score - other.score) > SAME_SCORE
        ):
            return Difference(place=place, recorded=_placed(one), rebuilt=_placed(other))
    return None


def diff(before: Sequence[ScoredItem], after: Sequence[ScoredItem]) -> ListDiff:
    """The changes from one list to another. No item stands twice in a list."""
    places = {item.item_id: (place, item.score) for place, item in enumerate(before, 1)}
    places_after = {item.item_id: (place, item.score) for place, item in enumerate(after, 1)}
    left = [item_id for item_id in places if item_id not in places_after]
    changes = []
    for item_id in [*places_after, *left]:
        was, now = places.get(item_id), places_after.get(item_id)
        changes.append(
            ItemChange(
                item_id=item_id,
                place_before=was and was[0],
                place_after=now and now[0],
                score_before=was and was[1],
                score_after=now and now[1],
                moved=was[0] - now[0] if was and now else None,
            )
        )
    return ListDiff(
        entered=[item_id for item_id in places_after if item_id not in places],
        left=left,
        same_order=list(places) == list(places_after),
        items=changes,
    )


def _placed(item: ScoredItem | None) -> PlacedItem | None:
    return None if item is None else PlacedItem(item_id=item.item_id, score=item.score)
