"""REST bodies that cross from one service to another, or to clients through more than one service.

A body that only one service's `api.py` speaks stays beside that route.
"""

from typing import Any, Literal

from pydantic import BaseModel, Field

PROBLEM_JSON = "application/problem+json"


class Problem(BaseModel):
    """RFC 9457 problem details. `code` is stable: clients may branch on it, `title` and `detail`
    are for people.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    request_id: str = ""
    errors: list[dict[str, Any]] = Field(default_factory=list)


class RecommendedItem(BaseModel):
    """One item of a slate. `source` names the retriever that spoke most for it; `attributes` come
    when asked for.
    """

    item_id: str
    score: float
    source: str
    attributes: dict[str, Any] | None = None


class RecommendationResponse(BaseModel):
    """A slate. `recommendation_id` belongs on every interaction that follows from it, so that it
    can be attributed.

    `answered_by` is the step of the fallback chain that answered, `reason` says why the steps
    before it did not.
    """

    recommendation_id: str
    user_id: str
    items: list[RecommendedItem]
    answered_by: Literal["model", "similar", "trending", "none"]
    reason: str = ""
    model_version: str | None = None
    history_length: int = 0


class RunRequest(BaseModel):
    """Ask training for a run. `trigger` says who asks, `reason` why, both are kept with the run."""

    trigger: Literal["request", "schedule", "events", "catalog", "alert"] = "request"
    reason: str = ""
    profile: Literal["fast", "best"] = "fast"


class Run(BaseModel):
    """A training run. `state` goes queued → running → succeeded | failed | cancelled; `decision` is
    the gate's.

    `progress` goes from 0 to 1; `epoch` of `epochs` and `loss` are those of the model that is being
    fitted now, where it has any. `eta_s` is in how many seconds the run should end, null while that
    can't be told. A run that was killed has failed, and `resumed_by` is the run that took its work
    up; of that one `attempt` is 2, and `resumes` the first run of this work.
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
    eta_s: int | None = None
    attempt: int = 1
    resumes: str | None = None
    resumed_by: str | None = None
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


class ModelVersion(BaseModel):
    """A registered model version, with the aliases that point at it."""

    version: str
    aliases: list[str] = Field(default_factory=list)
    run_id: str = ""
    created_at: int
    metrics: dict[str, float] = Field(default_factory=dict)
    lake_version: int | None = None
    files: list[str] = Field(default_factory=list)
