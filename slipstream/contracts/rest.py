"""REST bodies that several services share. A body of one service's routes stays next to them."""

import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, Field

from slipstream.contracts.placements import RuleTrace
from slipstream.contracts.reasons import SlateReasons

PROBLEM_JSON = "application/problem+json"


class Problem(BaseModel):
    """RFC 9457 problem details.

    `code` is stable, so clients may branch on it; `title` and `detail` are for people.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    request_id: str = ""
    errors: list[dict[str, Any]] = Field(default_factory=list)


class RecommendedItem(BaseModel):
    """One item of a slate.

    `source` names the retriever that contributed most to its score. `attributes` are null unless
    the request asks for them. `rules` names the placement's rules that moved it.
    """

    item_id: str
    score: float
    source: str
    attributes: dict[str, Any] | None = None
    rules: list[str] = Field(default_factory=list)


class AnsweredItem(RecommendedItem):
    """An item of an answer. `position` is its place, from 0, as events name it.

    `score` is the model's, and descends with the position except where rules, exploration or an
    experiment moved items. `reason_text` is the reason for the visitor, in the language that the
    request accepts; null unless the request asks for it.
    """

    position: int
    reason_text: str | None = None


class RecommendationResponse(BaseModel):
    """A slate of recommended items.

    Put `recommendation_id` on every interaction that follows from the slate, so that it can be
    attributed. `answered_by` is the step that gave the first items; `reason` says why the steps
    before it did not.

    `next_cursor` asks for the next page; null on the last one. `rules` is the account of each of
    the placement's rules, where the request asks for it. `propensities` are the probabilities with
    which the items stand where they stand; empty where nothing was left to chance. `reasons` are
    measured where the request asks for it; null where the model has no say.

    `experiment` is the experiment that the visitor is in, and `variant` the visitor's share of it:
    a variant's name, or `holdout`. Outside an experiment they are empty and `champion`.
    """

    recommendation_id: str
    user_id: str
    items: list[AnsweredItem]
    answered_by: Literal[
        "model", "similar", "trending", "popular", "new", "recent", "bought_together", "none"
    ]
    reason: str = ""
    model_version: str | None = None
    history_length: int = 0
    next_cursor: str | None = None
    rules: list[RuleTrace] = Field(default_factory=list)
    propensities: list[float] = Field(default_factory=list)
    reasons: SlateReasons | None = None
    experiment: str = ""
    variant: str = "champion"


class SlateRecord(BaseModel):
    """The record of a slate as the lake keeps it; times are in ms.

    `circumstances` are what it was made from, in the form of `Circumstances`. They are null where
    serving recorded none, and once their time is over.
    """

    recommendation_id: str
    user_id: str
    timestamp: int
    items: list[RecommendedItem]
    answered_by: str
    model_version: str | None = None
    placement: str = ""
    placement_revision: int = 0
    experiment: str = ""
    variant: str = "champion"
    purpose: str = "shown"
    propensities: list[float] = Field(default_factory=list)
    sampled: bool = False
    circumstances: dict[str, Any] | None = None


class LoggedSlate(SlateRecord):
    """A slate with a sampled order, and what followed from it.

    `clicked` are the places, from 0, of items that the visitor responded to. `revenue` are the
    purchases that followed: place, amount and currency of each; the currency is empty where none
    was sent.
    """

    clicked: list[int] = Field(default_factory=list)
    revenue: list[tuple[int, float, str]] = Field(default_factory=list)


class LoggedSlates(BaseModel):
    """The number of a placement's slates in a period, and of those that were sampled.

    `given` is the number of sampled ones that follow it, one a line.
    """

    slates: int
    sampled: int
    given: int


class AuditRecord(BaseModel):
    """A record of who did what: `principal` did `action` to `subject` at `at` (ms)."""

    number: int = 0
    at: int
    principal: str
    action: str
    subject: str
    detail: dict[str, Any] = Field(default_factory=dict)
    request_id: str = ""


class AuditPage(BaseModel):
    """Audit records, newest first. `next_cursor` asks for the next page; null on the last."""

    items: list[AuditRecord]
    next_cursor: int | None = None


def _no_run_id(key: str) -> str:
    if re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{6}", key):
        raise ValueError("a key may not look like the id of a run")
    return key


# Key of a run, which a caller chooses: requests that repeat it are answered by the same run.
RunKey = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"), AfterValidator(_no_run_id)
]


# Characters of a reason for a run, or for moving an alias.
MOST_REASON: Final = 1_000


class RunRequest(BaseModel, extra="forbid"):
    """A request for a training run; `trigger` and `reason` are kept with the run.

    All requests with one `key` get one run.
    """

    trigger: Literal["request", "schedule", "events", "catalog", "alert", "erasure"] = "request"
    reason: Annotated[str, Field(max_length=MOST_REASON)] = ""
    profile: Literal["fast", "best"] = "fast"
    key: RunKey | None = None


class Run(BaseModel):
    """A training run. `state` goes queued → running → succeeded | failed | cancelled.

    `decision` is the gate's. `progress` goes from 0 to 1. `epoch`, `epochs` and `loss` belong to
    the model that is being fitted, and are null where it has none.

    A killed run is queued again with `attempt` 2, and goes on from its checkpoints. `error` says
    why a run has failed, or why the attempt before this one ended.

    `onset` is when the shift began that an alert was open on (ms): the models are then compared on
    what came after it.
    """

    run_id: str
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    trigger: str
    reason: str = ""
    profile: str = "fast"
    stage: str = ""
    progress: float = 0.0
    epoch: int | None = None
    epochs: int | None = None
    loss: float | None = None
    attempt: int = 1
    created_at: int
    started_at: int | None = None
    finished_at: int | None = None
    error: str | None = None
    lake_version: int | None = None
    catalog_version: int | None = None
    model_version: str | None = None
    decision: str | None = None
    decision_reason: str = ""
    metrics: dict[str, float] = Field(default_factory=dict)
    key: str | None = None
    onset: int | None = None


class ModelVersion(BaseModel):
    """A registered model version, with the aliases that point at it.

    `learned_from` is the oldest version of the interactions that any part was fitted on: older than
    `lake_version` where parameters, blend and ranker were kept, null where it is not known.
    """

    version: str
    aliases: list[str] = Field(default_factory=list)
    run_id: str = ""
    created_at: int
    metrics: dict[str, float] = Field(default_factory=dict)
    lake_version: int | None = None
    learned_from: int | None = None
    files: list[str] = Field(default_factory=list)


class ModelsBeforeErasure(BaseModel):
    """What training has from before an erasure: `versions` of models, and `runs` under way.

    `deleted_by` is when the versions are deleted at the latest (ms).
    """

    versions: list[str]
    runs: list[str]
    deleted_by: int


class ErasureState(BaseModel):
    """An erasure as features knows it. `erased_at` is null while it waits.

    `rows` are the rows deleted from the lake, by table; `lake_version` is the version of the
    interactions without them. `files_left` counts the lake's files that may still hold them,
    `topics_left` names the topics that still have records from before. `redis_written_at` is when
    Redis last began to rewrite its files, null if it has not done so since it started.
    """

    erasure_id: str
    erased_at: int | None = None
    rows: dict[str, int] = Field(default_factory=dict)
    lake_version: int | None = None
    files_left: int | None = None
    topics_left: list[str] = Field(default_factory=list)
    redis_written_at: int | None = None


class ErasurePlace(BaseModel):
    """A place that a user's data may stand in: whether it is gone from there.

    `at` is when (ms), where that is known; of a place that is not done, when it will be. `detail`
    says what was deleted, or what the place waits for.
    """

    place: str
    done: bool
    at: int | None = None
    detail: str = ""


class ErasureReceipt(BaseModel):
    """The receipt of an erasure. It names no person.

    `requested`: it was accepted, and features has not read it. `waits`: everything from before it
    is being read. `erased`: neither Redis nor the lake give anything of the user, and some places
    still hold bytes. `complete`: every place is done.
    """

    erasure_id: str
    state: Literal["requested", "waits", "erased", "complete"]
    complete: bool
    asked_at: int | None = None
    places: list[ErasurePlace]
