"""The routes of the Open Inference Protocol, version 2."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response

from services.serving.api import Parts, json_response, parts
from services.serving.open_inference import messages
from slipstream.chassis.access.demands import requires
from slipstream.chassis.errors import NotFoundError, ServiceError
from slipstream.contracts.access import Scope

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])
MODEL_PATHS = (
    f"/models/{messages.NAME}",
    f"/models/{messages.NAME}/versions/{{version}}",
)


@router.get("")
@requires(Scope.READ)
async def server() -> dict[str, Any]:
    """The server's name, version and extensions of the protocol."""
    return {"name": "slipstream-serving", "version": "1", "extensions": []}


@router.get("/health/live")
@requires(Scope.READ)
async def live() -> dict[str, bool]:
    """Whether the server takes requests."""
    return {"live": True}


@router.get("/health/ready", response_class=Response)
@requires(Scope.READ)
async def ready(request: Request) -> Response:
    """Whether a model is loaded. 503 until then, though recommendations are answered."""
    opened = parts(request)
    loaded = opened.models.current is not None
    return json_response({"ready": loaded}, 200 if loaded else 503)


@router.get(MODEL_PATHS[0], response_class=Response)
@router.get(MODEL_PATHS[1], response_class=Response)
@requires(Scope.READ)
async def model_metadata(request: Request, version: str = "") -> Response:
    """The model's versions, inputs and outputs."""
    opened = parts(request)
    try:
        _require_version(opened, version)
    except ServiceError as error:
        return json_response({"error": error.detail}, error.status)
    return json_response(messages.metadata(_version(opened)))


@router.get(MODEL_PATHS[0] + "/ready", response_class=Response)
@router.get(MODEL_PATHS[1] + "/ready", response_class=Response)
@requires(Scope.READ)
async def model_ready(request: Request, version: str = "") -> Response:
    """Whether the model, or this version of it, is in service."""
    opened = parts(request)
    present = _version(opened)
    loaded = present is not None and version in ("", present)
    return json_response({"name": messages.NAME, "ready": loaded}, 200 if loaded else 503)


@router.post(MODEL_PATHS[0] + "/infer", response_class=Response)
@router.post(MODEL_PATHS[1] + "/infer", response_class=Response)
@requires(Scope.READ)
async def infer(
    request: Request, body: Annotated[dict[str, Any], Body()], version: str = ""
) -> Response:
    """Recommendations for the visitors of a BYTES tensor `user_id`.

    Visitors that the model can't answer for get the fallbacks of the other routes. Errors are
    `{"error": …}`, as the protocol has them.
    """
    opened = parts(request)
    try:
        _require_version(opened, version)
        inference_request = messages.parse(body)
        requests = messages.requests(inference_request)
        answers = await asyncio.gather(*map(opened.pipeline.recommend, requests))
    except ServiceError as error:
        return json_response({"error": error.detail}, error.status)
    return json_response(messages.response(inference_request, answers, _version(opened)))


def _version(opened: Parts) -> str | None:
    current = opened.models.current
    return current.version if current is not None else None


def _require_version(opened: Parts, version: str) -> None:
    present = _version(opened)
    if version and version != present:
        raise NotFoundError(
            f"version {version!r} is not in service; {present or 'none'} is", code="no_model"
        )
