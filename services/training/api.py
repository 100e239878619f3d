"""REST API of training: runs, model versions, aliases, and the files of bundles."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, HTMLResponse
from pydantic import BaseModel, Field

from services.training.erasures import ModelDeletion
from services.training.publish import ModelPublisher
from services.training.records import Audit, KeyTakenError, TransitionError
from services.training.registry import (
    ModelRegistry,
    NoCanaryError,
    NoPreviousError,
    UnknownVersionError,
)
from services.training.repository import Repository
from services.training.runs import Runs
from services.training.steps import read_steps
from slipstream.chassis.access.guard import audit_record, requires
from slipstream.chassis.errors import ConflictError, GoneError, InvalidRequestError, NotFoundError
from slipstream.contracts.access import Scope
from slipstream.contracts.bundle import Manifest
from slipstream.contracts.events import ModelEventType
from slipstream.contracts.rest import (
    MOST_REASON,
    AuditPage,
    ModelsBeforeErasure,
    ModelVersion,
    Run,
    RunRequest,
)
from slipstream.contracts.steps import RunSteps
from slipstream.contracts.times import now_ms
from slipstream.contracts.vocabulary import CANARY, CHAMPION
from slipstream.stores.artifacts import ArtifactNotFoundError, Artifacts
from slipstream.stores.metadata import AuditLog


class RunPage(BaseModel):
    """Runs, newest first. `next_cursor` asks for the next page; null on the last."""

    items: list[Run]
    next_cursor: str | None = None


class ModelPage(BaseModel):
    """Model versions, newest first. `next_cursor` asks for the next page; null on the last."""

    items: list[ModelVersion]
    next_cursor: str | None = None


class Reason(BaseModel, extra="forbid"):
    """A person's reason for moving an alias, kept with the model event."""

    reason: str = Field("by request", max_length=MOST_REASON)


class CanaryChoice(Reason):
    """The version that becomes the canary."""

    version: str = Field(min_length=1, max_length=128)


@dataclass(frozen=True)
class Parts:
    """The parts of the service that its routes use."""

    repository: Repository
    runs: Runs
    publisher: ModelPublisher
    registry: ModelRegistry
    artifacts: Artifacts
    audit: AuditLog


def parts(request: Request) -> Parts:
    """The parts that the lifespan has opened."""
    opened: Parts = request.app.state.parts
    return opened


Limit = Annotated[int, Query(ge=1, le=500)]

# A report loads nothing and runs nothing, whatever text its data hold.
_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'"

router = APIRouter(prefix="/v1", tags=["training"])


@router.post("/runs", status_code=202)
@requires(Scope.OPERATE)
def request_run(request: Request, body: RunRequest | None = None) -> Run:
    """Queue a run.

    If a run of the same profile waits already, it is returned: it will see the same data. With a
    `key`, the run that was requested with it is returned, in whatever state it is; 409 where that
    had other options.
    """
    training = parts(request)
    try:
        return training.runs.request(body or RunRequest())
    except KeyTakenError as error:
        raise ConflictError(str(error), code="key_taken") from error


@router.get("/runs")
@requires(Scope.READ)
def list_runs(request: Request, limit: Limit = 50, cursor: str | None = None) -> RunPage:
    """Runs, newest first."""
    training = parts(request)
    if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise InvalidRequestError(f"not a cursor: {cursor}", code="invalid_cursor")
    runs, following = training.repository.page(limit, int(cursor) if cursor is not None else None)
    return RunPage(items=runs, next_cursor=str(following) if following is not None else None)


@router.get("/runs/{run_id}")
@requires(Scope.READ)
def get_run(request: Request, run_id: str) -> Run:
    """A run's state, stage and progress; after its success, its model and the gate's decision.

    `run_id` may be the key of a run, here and below.
    """
    run = parts(request).repository.get(run_id)
    if run is None:
        raise NotFoundError(f"there is no run {run_id}", code="no_run")
    return run


@router.get("/runs/{run_id}/decisions")
@requires(Scope.READ)
def list_decisions(request: Request, run_id: str) -> list[Audit]:
    """The gate's audit record of a run: decision, reason, and all its numbers and settings."""
    training = parts(request)
    return training.repository.decisions(get_run(request, run_id).run_id)


@router.get("/runs/{run_id}/steps")
@requires(Scope.READ)
def list_steps(request: Request, run_id: str) -> RunSteps:
    """A run's steps: state, times and outputs, the versions that it read, and what each cost.

    Attempts at the work that were killed count, too.
    """
    return read_steps(parts(request).repository, get_run(request, run_id))


@router.get("/runs/{run_id}/report", response_class=HTMLResponse)
@requires(Scope.READ)
def get_report(request: Request, run_id: str) -> FileResponse:
    """A page about a run that made a model: data, figures, decision, lists before and after.

    It is kept as long as the model.
    """
    training = parts(request)
    run_id = get_run(request, run_id).run_id
    try:
        page = training.artifacts.report(run_id)
    except ArtifactNotFoundError as error:
        raise NotFoundError(
            f"run {run_id} has no report: it made no model, or that was deleted",
            code="no_report",
        ) from error
    return FileResponse(
        page, media_type="text/html", headers={"Content-Security-Policy": _PAGE_POLICY}
    )


@router.post("/runs/{run_id}:cancel", status_code=202)
@requires(Scope.OPERATE)
def cancel_run(request: Request, run_id: str) -> Run:
    """Take a run off the queue, or stop it; a running one is `cancelled` after the answer."""
    training = parts(request)
    try:
        with _audited(request, "cancel", run_id):
            return training.runs.cancel(run_id)
    except LookupError as error:
        raise NotFoundError(str(error), code="no_run") from error
    except TransitionError as error:
        raise ConflictError(str(error), code="run_ended") from error


@router.get("/models")
@requires(Scope.READ)
def list_models(request: Request, limit: Limit = 50, cursor: str | None = None) -> ModelPage:
    """Registered versions, newest first, with the aliases that point at them."""
    training = parts(request)
    try:
        models, following = training.registry.versions(limit, cursor)
    except ValueError as error:
        raise InvalidRequestError(str(error), code="invalid_cursor") from error
    return ModelPage(items=models, next_cursor=following)


@router.get("/models/{version}")
@requires(Scope.READ)
def get_model(request: Request, version: str) -> ModelVersion:
    """A version: its figures, the lake version that it was fitted on, its files.

    410 for one that was deleted after an erasure.
    """
    training = parts(request)
    try:
        return training.registry.get(version)
    except UnknownVersionError as error:
        if training.publisher.events.has(version, ModelEventType.DELETED):
            raise GoneError(f"{version} was deleted after an erasure", code="deleted") from error
        raise NotFoundError(str(error), code="no_model") from error


@router.post("/models/{version}:promote")
@requires(Scope.OPERATE)
def promote_model(request: Request, version: str, body: Reason | None = None) -> ModelVersion:
    """Make a version the champion whatever the gate's decision; serving loads it in seconds."""
    training = parts(request)
    reason = (body or Reason()).reason
    try:
        with _audited(request, "promote", version, reason=reason):
            return training.publisher.promote(version, reason)
    except UnknownVersionError as error:
        raise NotFoundError(str(error), code="no_model") from error


@router.post("/models:rollback")
@requires(Scope.OPERATE)
def rollback_model(request: Request, body: Reason | None = None) -> ModelVersion:
    """Make the previous champion champion again, and return it."""
    training = parts(request)
    reason = (body or Reason()).reason
    try:
        with _audited(request, "rollback", CHAMPION, reason=reason):
            return training.publisher.rollback(reason)
    except NoPreviousError as error:
        raise ConflictError(str(error), code="no_previous_champion") from error


@router.get("/audit")
@requires(Scope.ADMIN)
def audit(request: Request, limit: Limit = 50, cursor: int | None = None) -> AuditPage:
    """Who promoted, rolled back and cancelled what, newest first.

    A record is kept before the act; one of `…_failed` follows where the act failed.
    """
    return parts(request).audit.page(limit, cursor)


@contextmanager
def _audited(request: Request, action: str, subject: str, **detail: str) -> Iterator[None]:
    """Keep the record of an act before it, so that none is without; and one of its failure."""
    record = audit_record(request, action, subject, detail, now_ms())
    log = parts(request).audit
    log.add(record)
    try:
        yield
    except Exception as error:
        failed = {"at": now_ms(), "action": f"{action}_failed", "detail": {"error": str(error)}}
        log.add(record.model_copy(update=failed))
        raise


@router.get("/aliases/{alias}")
@requires(Scope.READ)
def get_alias(request: Request, alias: Literal["champion", "challenger", "canary"]) -> ModelVersion:
    """The version that an alias points at. 404 with code `no_model` while there is none."""
    training = parts(request)
    model = training.registry.alias(alias)
    if model is None:
        raise NotFoundError(
            f"no model is {alias} yet: a training run makes the first"
            if alias != CANARY
            else "no model is canary: PUT this path to choose one",
            code="no_model",
        )
    return model


@router.put("/aliases/canary")
@requires(Scope.OPERATE)
def set_canary(request: Request, body: CanaryChoice) -> ModelVersion:
    """Point the alias canary at a version, for experiments that try it on a share of visitors."""
    training = parts(request)
    try:
        with _audited(request, "set_canary", body.version, reason=body.reason):
            return training.publisher.set_canary(body.version, body.reason)
    except UnknownVersionError as error:
        raise NotFoundError(str(error), code="no_model") from error


@router.delete("/aliases/canary")
@requires(Scope.OPERATE)
def remove_canary(
    request: Request, reason: Annotated[str, Query(max_length=MOST_REASON)] = "by request"
) -> ModelVersion:
    """Remove the alias canary, and return the version that had it."""
    training = parts(request)
    try:
        with _audited(request, "remove_canary", CANARY, reason=reason):
            return training.publisher.remove_canary(reason)
    except NoCanaryError as error:
        raise NotFoundError(str(error), code="no_model") from error


@router.get("/models/{version}/files/{name}", response_class=FileResponse)
@requires(Scope.READ)
def get_file(request: Request, version: str, name: str) -> FileResponse:
    """One file of a bundle: `manifest.json`, or any that it names."""
    training = parts(request)
    try:
        directory = training.artifacts.path(version)
        manifest = Manifest.model_validate_json((directory / "manifest.json").read_bytes())
    except (ArtifactNotFoundError, FileNotFoundError) as error:
        raise NotFoundError(f"no bundle of version {version} is kept", code="no_model") from error
    # Only names that the manifest lists reach the file system, so no name can lead out of the
    # directory.
    if name != "manifest.json" and name not in manifest.files:
        raise NotFoundError(f"version {version} has no file {name}", code="no_file")
    return FileResponse(directory / name)


Whole = Annotated[int, Query(ge=0, lt=2**62)]


@router.get("/models:before-erasure")
@requires(Scope.READ)
def models_before_erasure(
    request: Request, lake_version: Whole, erased_at: Whole
) -> ModelsBeforeErasure:
    """What was learned from the lake before an erasure, and by when it is deleted.

    `lake_version` is the version of the interactions without the erased rows, `erased_at` when that
    was done (ms), both as features' receipt has them.
    """
    deletion: ModelDeletion = request.app.state.deletion
    return deletion.before(lake_version, erased_at)
