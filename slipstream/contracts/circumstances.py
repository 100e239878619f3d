"""Circumstances of a slate: serving's inputs when it made it, except model and catalogue.

Serving records them with each slate, and features keeps them in the lake for a stated time. With
them the slate can be made again (docs/replay.md). They are short: fields at their default are left
out, and a history is columns.
"""

from collections.abc import Mapping, Sequence
from operator import sub
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from slipstream.contracts.events import Id, Millis
from slipstream.contracts.experiments import Variant
from slipstream.contracts.placements import BoostRule

# The form that this program writes, and the only one that it reads.
FORM: Final = 1
# Events of a history: at most as many as a visitor's state has.
_MOST_EVENTS: Final = 1_000

# An item of a list, and its score.
Entry = tuple[str, float]


class RecordedHistory(BaseModel):
    """The events that a slate was made from, oldest first, as columns.

    Attributes:
        items: Item of each event.
        types: Type of each event; one entry where all have the same.
        times: Time (ms) of the first event, then the time from each event to the next.
        values: Value of each event; empty where none has one.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    items: Annotated[list[Id], Field(max_length=_MOST_EVENTS)] = Field(default_factory=list)
    types: list[str] = Field(default_factory=list)
    times: list[int] = Field(default_factory=list)
    values: list[float | None] = Field(default_factory=list)

    @classmethod
    def columns(cls, history: Sequence[tuple[str, str, int, float | None]]) -> dict[str, Any]:
        """The columns of events, as they are recorded: item, type, time (ms) and value of each."""
        if not history:
            return {}
        items, types, times, values = map(list, zip(*history, strict=True))
        recorded: dict[str, Any] = {
            "items": items,
            "types": types[:1] if types.count(types[0]) == len(types) else types,
            "times": [times[0], *map(sub, times[1:], times)],
        }
        if values.count(None) < len(values):
            recorded["values"] = values
        return recorded

    def events(self) -> list[tuple[str, str, int, float | None]]:
        """The events that were recorded. Raises ValueError where columns differ in length."""
        types = self.types * len(self.items) if len(self.types) == 1 else self.types
        values = self.values or [None] * len(self.items)
        times, moment = [], 0
        for step in self.times:
            moment += step
            times.append(moment)
        return list(zip(self.items, types, times, values, strict=True))


class Circumstances(BaseModel):
    """The circumstances of a slate.

    Attributes:
        form: Number of this form.
        size: Bytes of circumstances that were too large to be recorded; else 0.
        now: Time (ms) by which rules counted.
        n: Requested length.
        steps: Steps that could answer, in their order.
        filter: Filter of the request.
        boosts: Boosts of the request.
        exclude: Items that were not wanted.
        before: Items of the pages before.
        similar_to: Items of a request for their neighbours.
        repeats: Whether items of the history could come again; None left it to the placement.
        diversity: Requested diversity.
        exploration: Requested exploration.
        context: Fields of the request that rules could ask for.
        window: Window of popular items.
        traced: Whether rules gave an account.
        model: Version of the model that was asked; None without one.
        history: The visitor's events.
        no_history: Why there was no history, or only a part.
        fatigue: Impressions without a response by item, where the policy counts them.
        catalog: By topic id, the next offset of each partition of `catalog.v1` that serving had.
        placements: The placement with the policy that applied, and its revision; 0 without one.
        maker: Variant that the slate was made for; None stands for the placement's own policy.
        given: Items that steps of the online store gave, by step.
        doubts: Why a list that is made again may differ; see `DOUBTS`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    form: Literal[1]
    size: int = 0
    now: Millis = 0
    n: Annotated[int, Field(ge=1, le=1_000)] = 10
    steps: list[str] = Field(default_factory=list)
    filter: str = ""
    boosts: list[BoostRule] = Field(default_factory=list)
    exclude: list[Id] = Field(default_factory=list)
    before: list[Id] = Field(default_factory=list)
    similar_to: list[Id] = Field(default_factory=list)
    repeats: bool | None = None
    diversity: float | None = None
    exploration: float | None = None
    context: dict[str, Any] = Field(default_factory=dict)
    window: str = ""
    traced: bool = False
    model: str | None = None
    history: RecordedHistory = Field(default_factory=RecordedHistory)
    no_history: str = ""
    fatigue: dict[str, int] = Field(default_factory=dict)
    catalog: dict[str, list[int]] = Field(default_factory=dict)
    placements: dict[str, int] = Field(default_factory=dict)
    maker: Variant | None = None
    given: dict[str, list[Entry]] = Field(default_factory=dict)
    doubts: list[str] = Field(default_factory=list)

    @classmethod
    def read(cls, recorded: Mapping[str, Any]) -> Self:
        """The circumstances that were recorded. Raises ValueError for another form."""
        return cls.model_validate(recorded)


# Reasons for which a list may differ that is made again in the same circumstances.
CATALOG_CHANGED: Final = "catalog_changed"
NEW_ITEMS_WAITED: Final = "new_items_waited"
DOUBTS: Final[Mapping[str, str]] = {
    CATALOG_CHANGED: (
        "the catalogue changed within the last seconds before, or during the request: masks of "
        "filters and the list of new items may have been a second old"
    ),
    NEW_ITEMS_WAITED: "new items were still being compared with those that the model knows",
}
