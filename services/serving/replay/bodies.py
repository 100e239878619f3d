"""Bodies of the routes of replays."""

from typing import Annotated, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from services.serving.http.bodies import MOST_BOOSTS, Boost, Share
from services.serving.replay.comparison import Difference, ListDiff
from slipstream.chassis.request_names import UNKNOWN_NAME, unknown_field
from slipstream.contracts.placements import MOST_RULES, PlacementPolicy, RuleName
from slipstream.contracts.rest import RecommendedItem
from slipstream.filters.expressions import FilterError, FilterText
from slipstream.slates.arranging.policies import CompiledPolicy


class AnswerReplay(BaseModel):
    """An answer as it was recorded, and as it is made again in the same circumstances.

    `identical` says whether both have the same items in the same order, with scores within 1e-5;
    else `difference` is the first place where they differ, and `reasons` say what may be the cause.
    `models` are the versions that made the list, and `model_version` is the one that gave the first
    items. `placements` are the revisions of the rules.
    """

    recommendation_id: str
    user_id: str
    timestamp: int
    placement: str
    placements: dict[str, int]
    experiment: str
    variant: str
    answered_by: str
    models: list[str | None]
    model_version: str | None
    history_length: int
    recorded: list[RecommendedItem]
    rebuilt: list[RecommendedItem]
    identical: bool
    difference: Difference | None
    reasons: list[str]
    took_ms: float


def _without_unknown_fields(policy: object) -> object:
    """A policy as it is given. Records ignore fields that they don't know; a person means them."""
    try:
        PlacementPolicy.model_validate(policy, extra="forbid")
    except ValidationError as error:
        for each in error.errors():
            if each["type"] == "extra_forbidden":
                fault = unknown_field(PlacementPolicy, ("policy", *each["loc"]))
                place = ".".join(map(str, fault["loc"][1:]))
                raise PydanticCustomError(
                    UNKNOWN_NAME, "{place}: {words}", {"place": place, "words": fault["msg"]}
                ) from None
    return policy


class WhatIf(BaseModel):
    """Circumstances that are to be other ones. At least one is given.

    `placement_revision` and `policy` change the placement that applied, and exclude each other.
    `without_rules` removes rules from its policy. `boosts` are added to those of the request.
    """

    model_config = ConfigDict(extra="forbid")

    model_version: Annotated[str, Field(min_length=1, max_length=256)] | None = Field(
        None, description="model version in service"
    )
    placement_revision: Annotated[int, Field(ge=0, le=2**31 - 2)] | None = Field(
        None, description="revision of the placement; 0 for no rules"
    )
    policy: Annotated[PlacementPolicy, BeforeValidator(_without_unknown_fields)] | None = Field(
        None, description="a whole policy (docs/placements.md)"
    )
    without_rules: list[RuleName] = Field(
        default_factory=list, max_length=MOST_RULES, description="names of rules that do not count"
    )
    diversity: Share | None = None
    exploration: Share | None = None
    boosts: list[Boost] = Field(default_factory=list, max_length=MOST_BOOSTS)
    filter: FilterText | None = Field(None, description="filter in place of the request's")

    @field_validator("policy")
    @classmethod
    def _readable(cls, policy: PlacementPolicy | None) -> PlacementPolicy | None:
        if policy is not None:
            try:
                CompiledPolicy.of(policy)
            except FilterError as error:
                raise PydanticCustomError(
                    "invalid_filter", "{words}", {"words": str(error)}
                ) from error
        return policy

    @model_validator(mode="after")
    def _of_one_piece(self) -> Self:
        if not self.model_fields_set:
            raise PydanticCustomError("nothing_changed", "say what is to be another one")
        if self.policy is not None and self.placement_revision is not None:
            raise PydanticCustomError(
                "two_policies", "give a revision of the placement or a policy, not both"
            )
        return self


class WhatIfAnswer(BaseModel):
    """An answer in its own circumstances and in other ones, and the changes between them.

    `before` is the list made again as it was, so that the diff shows what the change does alone.
    `notes` say what the record does not have, so that the list after is not exact.
    """

    recommendation_id: str
    changed: WhatIf
    identical: bool = Field(description="whether `before` is the recorded list")
    before: list[RecommendedItem]
    after: list[RecommendedItem]
    diff: ListDiff
    notes: list[str]
    took_ms: float
