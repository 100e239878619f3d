"""Body of a slate's measured reasons: the ranks that its items have without parts of a history.

All ranks are the model's, from 1, before a placement's rules; null is a rank below `ranked`.
"""

from pydantic import BaseModel


class HistoryItem(BaseModel):
    """An item of the visitor's history. The model ranked the list again without it.

    All `events` of the item are left out together. `event_type` and `timestamp` (ms, 0 if unknown)
    are those of the event with the most weight, the latest of several.
    """

    item_id: str
    title: str | None
    event_type: str
    timestamp: int
    events: int


class ItemReason(BaseModel):
    """The reason of one recommended item.

    `words` is the reason as a sentence. `because` names the items of the history that decide, three
    at most, and `rank_without` is the rank without all of them; it is empty where none were found.
    `ranks_without` has the rank without each entry of `history` alone, and `rank_without_history`
    the rank for a visitor who has done nothing.

    `retrievers` has each retriever's part of the score, as a difference of logarithms to the
    average candidate, and `source` names the largest. `ranker` is the ranker's part, against the
    average of those that it ordered, and `features` are its inputs by name. They are empty, and
    `score` is 0, for an item that the model did not propose.
    """

    item_id: str
    words: str
    rank: int | None
    score: float
    because: list[str]
    rank_without: int | None
    rank_without_history: int | None
    ranks_without: list[int | None]
    source: str | None
    retrievers: dict[str, float]
    ranker: float | None
    features: dict[str, float]


class SlateReasons(BaseModel):
    """The reasons of a slate's items, in its order.

    `history` has the items that were left out, one at a time, the latest first: at most 20 of the
    `history_items` that the model knows. `cut_short` says that time was over before all was done.
    """

    ranked: int
    history_items: int
    cut_short: bool
    history: list[HistoryItem]
    items: list[ItemReason]
