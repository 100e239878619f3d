"""REST routes of placements, and the body of a placement's policy.

The body is the contract's, with the checks that records are spared. Fields that no rule has are
refused, since a misspelt one would change what is shown.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, Final, Self

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from services.monitoring.control.experiments_repository import ExperimentTable
from services.monitoring.control.http.named_records import (
    CHANGED,
    PAGE_LIMIT,
    BeforeRevision,
    IfMatch,
    Limit,
    RecordRoutes,
    missing,
)
from services.monitoring.counting.credit import DIMENSIONS, SUMS
from services.monitoring.counting.outcomes_repository import OutcomeTable
from slipstream.chassis.access.guard import requires
from slipstream.chassis.client import Peer, PeerError
from slipstream.chassis.errors import ConflictError
from slipstream.contracts.access import Scope
from slipstream.contracts.placements import (
    MOST_RULES,
    BoostRule,
    CapRule,
    ExcludeRule,
    IncludeRule,
    PinRule,
    Placement,
    PlacementName,
    PlacementPolicy,
    RuleBase,
    RuleMatches,
)
from slipstream.contracts.rest import Problem
from slipstream.contracts.times import HOUR_MS
from slipstream.filters.expressions import FilterError, parsed

# The largest policy, as JSON: all of them fit into a service's memory, and into one answer's pages.
MOST_BYTES: Final = 65_536


class RuleBody(RuleBase):
    """The checks of every rule; an error names the rule."""

    @field_validator("filter", "when")
    @classmethod
    def _readable(cls, expression: str, info: ValidationInfo) -> str:
        if expression:
            try:
                parsed(expression, of_context=info.field_name == "when")
            except FilterError as error:
                raise PydanticCustomError(
                    "invalid_filter",
                    "rule {rule}: {words}",
                    {"rule": info.data.get("name", ""), "words": str(error)},
                ) from error
        return expression

    @model_validator(mode="after")
    def _has_a_time(self) -> Self:
        if not _overlap(self, self):
            raise _refused(f"rule {self.name}: it ends before it starts")
        return self


class IncludeBody(IncludeRule, RuleBody, extra="forbid"):
    """A rule that includes."""


class ExcludeBody(ExcludeRule, RuleBody, extra="forbid"):
    """A rule that excludes."""


class BoostBody(BoostRule, RuleBody, extra="forbid"):
    """A rule that boosts or buries."""

    @model_validator(mode="after")
    def _does_what_it_says(self) -> Self:
        if (self.factor > 1) != (self.action == "boost") or self.factor == 1:
            raise _refused(
                f"rule {self.name}: a factor above 1 boosts, one below 1 buries, not {self.factor}"
            )
        return self


class PinBody(PinRule, RuleBody, extra="forbid"):
    """A rule that pins."""


class CapBody(CapRule, RuleBody, extra="forbid"):
    """A rule that caps."""


AnyRuleBody = Annotated[
    IncludeBody | ExcludeBody | BoostBody | PinBody | CapBody, Field(discriminator="action")
]


class PolicyBody(PlacementPolicy, extra="forbid"):
    """The rules of a placement's slates, and how they treat a visitor's past."""

    rules: Annotated[list[AnyRuleBody], Field(max_length=MOST_RULES)] = Field(  # type: ignore[assignment]
        default_factory=list
    )

    @model_validator(mode="after")
    def _is_of_one_piece(self) -> Self:
        if faults := [*_repeated_names(self.rules), *_contested_positions(self.rules)]:
            raise _refused("; ".join(faults))
        if len(self.model_dump_json().encode()) > MOST_BYTES:
            raise _refused(f"a policy has at most {MOST_BYTES:,} bytes of JSON")
        return self

    def policy(self) -> PlacementPolicy:
        """The policy as records carry it."""
        return PlacementPolicy.model_validate(self.model_dump())


def _repeated_names(rules: list[AnyRuleBody]) -> Iterator[str]:
    seen = set[str]()
    for name in (rule.name for rule in rules):
        if name in seen:
            yield f"two rules have the name {name}"
        seen.add(name)


def _contested_positions(rules: list[AnyRuleBody]) -> Iterator[str]:
    """Pins of one position that hold at one time, both whatever the context is."""
    pins = [rule for rule in rules if isinstance(rule, PinBody) and rule.enabled and not rule.when]
    for one, other in combinations(pins, 2):
        if one.position == other.position and _overlap(one, other):
            yield (
                f"rules {one.name} and {other.name} pin to position {one.position} at the same "
                "time: give one a `when`, or times that do not overlap"
            )


def _overlap(one: RuleBase, other: RuleBase) -> bool:
    """Whether there is a moment at which both rules count."""
    starts = max(rule.starts_at or 0 for rule in (one, other))
    return all(rule.ends_at is None or starts < rule.ends_at for rule in (one, other))


def _refused(words: str) -> PydanticCustomError:
    return PydanticCustomError("invalid_policy", "{words}", {"words": words})


PathName = Annotated[PlacementName, Path()]
# How long a request for a placement counts as a use of it.
_IN_USE_MS: Final = HOUR_MS


@dataclass(frozen=True)
class PlacementRoutes(RecordRoutes[Placement, PlacementPolicy]):
    """The answers of the routes of placements.

    Attributes:
        experiments: The experiments, which may name placements.
        outcomes: The outcomes, which tell of requests.
        serving: Serving, which has the catalogue.
    """

    experiments: ExperimentTable
    outcomes: OutcomeTable
    serving: Peer

    def matches(self, policy: PlacementPolicy) -> RuleMatches | None:
        """What the rules are about now; None where serving does not answer."""
        rules = [
            {"name": rule.name, "filter": rule.filter, "attribute": getattr(rule, "attribute", "")}
            for rule in policy.rules
        ]
        try:
            counted = self.serving.post("/v1/rules:match", {"rules": rules})
            return RuleMatches.model_validate(counted)
        except (PeerError, ValidationError):
            return None

    def uses(self, name: str) -> list[str]:
        """What would have no list without the placement, in words."""
        now_ms = self.clock()
        designs = {each.name: each.design for each in self.experiments.page(self.experiments.most)}
        running = [
            experiment
            for experiment, design in designs.items()
            if design.state == "running"
            and (design.ends_at is None or now_ms < design.ends_at)
            and name in (*design.placements, *(variant.placement for variant in design.variants))
        ]
        placement, position = map(DIMENSIONS.index, ("placement", "position"))
        # Answers are counted by place, and each list has one first place.
        lists = sum(
            row.sums[SUMS.index("answers")]
            for row in self.outcomes.rows(now_ms - _IN_USE_MS, now_ms)
            if row.group[placement] == name and row.group[position] == 0
        )
        uses = [f"experiment {experiment} names it" for experiment in running]
        return [*uses, f"{lists:,} requests of the last hour named it"] if lists else uses


class PutPlacement(Placement):
    """A placement after a change. `matches` is null where serving did not tell."""

    matches: RuleMatches | None


class PlacementPage(BaseModel):
    """Placements by name; `next_cursor` is null on the last page."""

    items: list[Placement]
    next_cursor: str | None


class RevisionPage(BaseModel):
    """Revisions of a placement, newest first; `next_cursor` is null on the last page."""

    items: list[Placement]
    next_cursor: int | None


router = APIRouter(prefix="/v1/placements", tags=["placements"])


def routes(request: Request) -> PlacementRoutes:
    """What the lifespan has opened."""
    opened: PlacementRoutes = request.app.state.placements
    return opened


@router.get("", summary="All placements, by name")
@requires(Scope.READ)
def list_placements(
    request: Request,
    limit: Limit = PAGE_LIMIT,
    cursor: Annotated[PlacementName, Query(description="`next_cursor` of the page before")]
    | None = None,
) -> PlacementPage:
    """Each placement as it is now. Deleted ones are left out."""
    items, following = routes(request).page(limit, cursor)
    return PlacementPage(items=items, next_cursor=following)


@router.get("/{name}", summary="One placement", responses=missing("placement"))
@requires(Scope.READ)
def get_placement(request: Request, response: Response, name: PathName) -> Placement:
    """The placement as it is now; `ETag` is its revision."""
    return routes(request).get(response, name)


@router.put(
    "/{name}",
    summary="Create or replace a placement",
    responses={
        201: {"model": PutPlacement, "description": "created"},
        409: {"model": Problem, "description": "too_many_placements"},
        **CHANGED,
    },
)
@requires(Scope.OPERATE)
def put_placement(
    request: Request,
    response: Response,
    name: PathName,
    body: PolicyBody,
    if_match: IfMatch = None,
) -> PutPlacement:
    """Give a placement this policy, whole. Serving has it within a second.

    The same policy again changes nothing, and makes no revision. The answer says how many items
    each rule is about now.
    """
    of_placements, policy = routes(request), body.policy()
    put = of_placements.put(request, response, name, policy, if_match)
    return PutPlacement(**put.model_dump(), matches=of_placements.matches(policy))


@router.delete(
    "/{name}",
    summary="Delete a placement",
    responses={
        **missing("placement"),
        409: {"model": Problem, "description": "placement_in_use"},
        **CHANGED,
    },
)
@requires(Scope.OPERATE)
def delete_placement(
    request: Request,
    name: PathName,
    if_match: IfMatch = None,
    force: Annotated[bool, Query(description="whether one in use is deleted, too")] = False,
) -> Placement:
    """Delete a placement: within a second, requests that name it are refused. Revisions stay.

    One that a running experiment names, or requests of the last hour, is deleted only by `force`.
    """
    of_placements = routes(request)
    if not force and (uses := of_placements.uses(name)):
        raise ConflictError(
            f"{' and '.join(uses)}: each such request would be refused. Stop the experiment and "
            "change the pages first, or delete it by force",
            code="placement_in_use",
        )
    return of_placements.delete(request, name, if_match)


@router.get(
    "/{name}/revisions", summary="Every revision of a placement", responses=missing("placement")
)
@requires(Scope.READ)
def list_revisions(
    request: Request, name: PathName, limit: Limit = PAGE_LIMIT, cursor: BeforeRevision = None
) -> RevisionPage:
    """Every state that it has had, newest first, also where it is deleted."""
    items, following = routes(request).revisions(name, limit, cursor)
    return RevisionPage(items=items, next_cursor=following)
