"""Placements: places on a page, each with the rules of its slates.

`placements.v1` carries the newest state of each. Monitoring writes them, serving follows them.
Filter expressions are checked where they come in (`slipstream.filters.expressions`), and are text
here.
"""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from slipstream.contracts.events import Id, Millis, Moment, Record

MOST_RULES: Final = 100
# The longest slate, and so the last position that an item can be pinned to.
LONGEST_SLATE: Final = 100

PlacementName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
RuleName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_. -]{0,63}$")]
# Whether items of a visitor's past may be in the slate; `model` leaves it to the model.
Repeats = Literal["model", "show", "hide"]


class RuleBase(BaseModel):
    """Fields that every rule has.

    A rule counts from `starts_at` until `ends_at`, and where `when`, an expression over the
    request's context, holds. `filter` says which items it is about; empty for all.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    name: RuleName
    filter: str = ""
    when: str = ""
    starts_at: Moment | None = None
    ends_at: Moment | None = None
    enabled: bool = True


class IncludeRule(RuleBase):
    """Only these items may be in the slate. Of several such rules, each must be met."""

    action: Literal["include"]


class ExcludeRule(RuleBase):
    """None of these items may be in the slate."""

    action: Literal["exclude"]


class BoostRule(RuleBase):
    """The scores of these items are multiplied: by more than 1 to boost, by less to bury."""

    action: Literal["boost", "bury"]
    factor: Annotated[float, Field(gt=0, le=1_000)]


class PinRule(RuleBase):
    """The best of these items for the visitor stands at `position`, which counts from 1."""

    action: Literal["pin"]
    position: Annotated[int, Field(ge=1, le=LONGEST_SLATE)]


class CapRule(RuleBase):
    """At most `most` items of the slate share a value of `attribute`; `filter` says which count."""

    action: Literal["cap"]
    attribute: Annotated[str, Field(min_length=1, max_length=64)]
    most: Annotated[int, Field(ge=1, le=LONGEST_SLATE)]


Rule = Annotated[
    IncludeRule | ExcludeRule | BoostRule | PinRule | CapRule, Field(discriminator="action")
]


class RuleMatch(BaseModel):
    """How many items a rule is about; null where that depends on the visitor.

    `remark` says why it is none, where that is known.
    """

    rule: str
    matches: int | None
    remark: str = ""


class RuleMatches(BaseModel):
    """The items that rules are about now, of all `items` of the catalogue that may be shown."""

    items: int
    rules: list[RuleMatch]


class PlacementPolicy(BaseModel):
    """The rules of a placement's slates.

    Attributes:
        rules: Rules, each under its own name.
        seen: Whether items that the visitor has had to do with may be shown.
        bought: Whether items that the visitor has bought may be shown; `model` follows `seen`, but
            hides those that are not bought again, or not yet.
        group_by: Attribute that duplicates share: the best item of each value is shown. Empty for
            no groups.
        fatigue: Times that an item was shown to the visitor without a response, within a day, from
            which it is left out; 0 for no limit.
        diversity: From 0, the best items, to 1, the most varied ones.
        calibration: From 0 to 1: how closely the slate's shares of `calibrated_by` follow those of
            the visitor's history.
        calibrated_by: Attribute of the shares.
        exploration: Share of the slate's places that go to items of which little is known.
        sampling: Share of the placement's slates with an order that is drawn by chance, with known
            probabilities, so that another order can be priced by them. These do not explore.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    rules: Annotated[list[Rule], Field(max_length=MOST_RULES)] = Field(default_factory=list)
    seen: Repeats = "model"
    bought: Repeats = "model"
    group_by: Annotated[str, Field(max_length=64)] = "item_group_id"
    fatigue: Annotated[int, Field(ge=0, le=100)] = 0
    diversity: Annotated[float, Field(ge=0, le=1)] = 0.0
    calibration: Annotated[float, Field(ge=0, le=1)] = 0.0
    calibrated_by: Annotated[str, Field(min_length=1, max_length=64)] = "categories"
    exploration: Annotated[float, Field(ge=0, le=1)] = 0.0
    sampling: Annotated[float, Field(ge=0, le=1)] = 0.0


class Placement(Record):
    """`placements.v1`, key `name`: the newest state of a placement.

    `revision` grows by one with every change. `deleted` marks one that is gone; requests that name
    it are then refused.
    """

    name: PlacementName
    revision: Annotated[int, Field(ge=1)]
    policy: PlacementPolicy = Field(default_factory=PlacementPolicy)
    deleted: bool = False
    changed_at: Millis
    changed_by: str = ""


class RuleTrace(BaseModel):
    """An account of a rule in one slate.

    `matched` counts the candidates that it is about. Of a rule that includes or excludes, which is
    applied before there are candidates, it counts the catalogue's items; null without a model.
    `items` are the items of the slate that it moved, kept out or put in; of those kept out, the ten
    best. `note` says why it had no effect.
    """

    rule: str
    action: str
    matched: int | None = None
    items: list[Id] = Field(default_factory=list)
    note: str = ""
