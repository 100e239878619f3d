"""Bodies of the routes of replays and prices."""

from collections.abc import Sequence
from math import isfinite
from typing import Annotated, Final, Literal, Self

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
from slipstream.contracts.events import Millis
from slipstream.contracts.placements import MOST_RULES, PlacementName, PlacementPolicy, RuleName
from slipstream.contracts.rest import Problem, RecommendedItem
from slipstream.contracts.times import DAY_MS
from slipstream.filters.expressions import FilterError, FilterText
from slipstream.slates.arranging.policies import CompiledPolicy
from slipstream.slates.pricing import PricedReward


class AnswerReplay(BaseModel):
    """An answer as it was recorded, and as it is made again in the same circumstances.

    `identical` says whether both have the same items in the same order, with scores within 1e-5;
    else `difference` is the first place where they differ, and `reasons` say what may be the cause.
    `model` is the version that was asked, and `model_version` is the one that gave the first items.
    `placements` is the revision of the rules.
    """

    recommendation_id: str
    user_id: str
    timestamp: int
    placement: str
    placements: dict[str, int]
    experiment: str
    variant: str
    answered_by: str
    model: str | None
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


# Longest period of a price: what slates are made again from is kept for so long.
MOST_DAYS: Final = 31
MOST_PRICED: Final = 10_000
# Slates that a price is given for.
PER: Final = 1_000


class PriceRequest(BaseModel):
    """A draft, and the log that it is priced by: a placement's sampled slates of a period.

    `draft` is what `what-if` takes, except exploration: sampled slates do not explore.
    """

    model_config = ConfigDict(extra="forbid")

    placement: PlacementName
    since: Millis = Field(description="time of the first slates, ms since the epoch")
    until: Millis = Field(description="time before which they were made")
    draft: WhatIf
    variant: Annotated[str, Field(max_length=64)] = Field(
        "", description="slates of one variant of an experiment alone; empty for all"
    )
    currency: Annotated[str, Field(max_length=16)] | None = Field(
        None, description="currency of the purchases that count, where there are several"
    )
    slates: Annotated[int, Field(ge=1, le=MOST_PRICED)] = Field(
        MOST_PRICED, description="most slates that are recomputed, a random sample"
    )

    @model_validator(mode="after")
    def _priceable(self) -> Self:
        if not self.since < self.until:
            raise PydanticCustomError("empty_period", "`since` must be before `until`")
        if self.until - self.since > MOST_DAYS * DAY_MS:
            raise PydanticCustomError(
                "too_long", "the period has more than {days} days", {"days": MOST_DAYS}
            )
        if self.draft.exploration is not None:
            raise PydanticCustomError(
                "not_priced", "sampled slates do not explore, so exploration has no price"
            )
        return self


class PriceEstimate(BaseModel):
    """An estimate of a change in 1,000 slates, with its 95 % interval over visitors.

    `assumption` is what a response depends on: `position` (the item and its place), or `cascade`
    (also the items before it). `estimator` is `dr` (doubly robust), `snips` or `ips`. `verdict` is
    `more`, `fewer`, `open` where the interval has 0, or `cant_tell` with the `reason`;
    `slates_needed` is the number of sampled slates that would do, null where none does.

    `by_weights` and `by_rewards` are numbers of visitors that the estimate rests on;
    `unsupported` is the share of the draft's places with items that could not be shown there.
    """

    assumption: Literal["position", "cascade"]
    estimator: Literal["dr", "snips", "ips"]
    difference: float
    low: float | None
    high: float | None
    verdict: Literal["more", "fewer", "open", "cant_tell"]
    reason: str
    slates_needed: int | None
    by_weights: float
    by_rewards: float
    unsupported: float


class RewardPrice(BaseModel):
    """A reward's change. `logged` is what 1,000 logged slates had. The first estimate decides."""

    reward: Literal["clicks", "revenue"]
    currency: str | None
    logged: float
    verdict: Literal["more", "fewer", "open", "cant_tell"]
    estimates: list[PriceEstimate]

    @classmethod
    def of(
        cls,
        reward: Literal["clicks", "revenue"],
        currency: str | None,
        logged: float,
        found: Sequence[PricedReward],
    ) -> Self:
        """The change by estimates for one slate; `logged` is a slate's mean."""
        estimates = [
            PriceEstimate(
                assumption=each.assumption,
                estimator=each.estimator,
                difference=each.difference.value * PER,
                low=each.difference.low * PER if isfinite(each.difference.low) else None,
                high=each.difference.high * PER if isfinite(each.difference.high) else None,
                verdict=each.judgement.verdict,
                reason=each.judgement.reason,
                slates_needed=each.judgement.slates_needed,
                by_weights=round(each.by_weights, 1),
                by_rewards=round(each.by_rewards, 1),
                unsupported=each.unsupported,
            )
            for each in found
        ]
        return cls(
            reward=reward,
            currency=currency,
            logged=logged * PER,
            verdict=estimates[0].verdict,
            estimates=estimates,
        )


class Price(BaseModel):
    """The price of a draft.

    `slates` were made in the period, `sampled` of these in a sampled order; `weighed` of them were
    recomputed alike, and `left_out` says why others were not. `notes` say what the records lack.
    """

    placement: str
    since: int
    until: int
    variant: str
    draft: WhatIf
    slates: int
    sampled: int
    weighed: int
    visitors: int
    left_out: dict[str, int]
    notes: list[str]
    rewards: list[RewardPrice]
    took_s: float = 0.0


class PriceLine(BaseModel):
    """A line of a price's answer: its progress, and in the last line the price or the problem."""

    done: int
    of: int
    price: Price | None = None
    problem: Problem | None = None
