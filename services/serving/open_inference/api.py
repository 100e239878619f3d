"""The routes of the Open Inference Protocol, version 2, in JSON.

Errors are as the protocol has them: `{"error": …}`, whoever answers.
"""

from typing import Final

import orjson
from fastapi import APIRouter, Request, Response
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from services.serving.http.responses import Parts, json_response, parts
from services.serving.open_inference import messages
from services.serving.open_inference.messages import (
    InferenceError,
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
)
from slipstream.chassis.access.guard import requires
from slipstream.chassis.bodies import body_schema, read_body
from slipstream.chassis.errors import InvalidRequestError, NotFoundError
from slipstream.chassis.request_names import taking_any_name
from slipstream.contracts.access import Scope
from slipstream.contracts.rest import PROBLEM_JSON

_PATH: Final = "/v2"
router = APIRouter(
    prefix=_PATH,
    tags=["Open Inference Protocol"],
    responses={status: {"model": InferenceError} for status in (400, 404)},
    route_class=taking_any_name("the protocol's clients send any query_params of their callers"),
)
MODEL: Final = "/models/{name}"
VERSION: Final = "/models/{name}/versions/{version}"
# 64 ids of 256 bytes need a fifth of it, where JSON escapes every byte.
MOST_BODY_BYTES: Final = 524_288
# Header of a request with binary tensors, which says where its JSON ends.
_JSON_LENGTH: Final = "Inference-Header-Content-Length"
_REQUEST: Final = {"application/json": {"schema": body_schema(InferenceRequest)}}
_INFERENCE: Final = {"requestBody": {"required": True, "content": _REQUEST}}


@router.get("")
@requires(Scope.READ)
async def server_metadata() -> ServerMetadata:
    """The server's name, version and extensions of the protocol."""
    return ServerMetadata(name="slipstream-serving", version="1", extensions=["parameters"])


@router.get("/health/live")
@requires(Scope.READ)
async def server_live() -> ServerLive:
    """Whether the server takes requests."""
    return ServerLive(live=True)


@router.get("/health/ready", responses={503: {"model": ServerReady}})
@requires(Scope.READ)
async def server_ready(request: Request, response: Response) -> ServerReady:
    """Whether a model is loaded. 503 until then, though recommendations are answered."""
    loaded = parts(request).models.current is not None
    response.status_code = 200 if loaded else 503
    return ServerReady(ready=loaded)


@router.get(MODEL)
@router.get(VERSION, name="version_metadata")
@requires(Scope.READ)
async def model_metadata(request: Request, name: str, version: str = "") -> ModelMetadata:
    """The model's versions, inputs and outputs."""
    opened = parts(request)
    _require(opened, name, version)
    return messages.metadata(_version(opened))


@router.get(f"{MODEL}/ready", responses={503: {"model": ModelReady}})
@router.get(f"{VERSION}/ready", name="version_ready", responses={503: {"model": ModelReady}})
@requires(Scope.READ)
async def model_ready(
    request: Request, response: Response, name: str, version: str = ""
) -> ModelReady:
    """Whether the model, or this version of it, is in service."""
    opened = parts(request)
    _require(opened, name)
    present = _version(opened)
    loaded = present is not None and version in ("", present)
    response.status_code = 200 if loaded else 503
    return ModelReady(name=name, ready=loaded)


@router.post(f"{MODEL}/infer", response_model=InferenceResponse, openapi_extra=_INFERENCE)
@router.post(
    f"{VERSION}/infer",
    name="infer_by_version",
    response_model=InferenceResponse,
    openapi_extra=_INFERENCE,
)
@requires(Scope.READ)
async def infer(request: Request, name: str, version: str = "") -> Response:
    """Recommendations for the visitors of a BYTES tensor `user_id`, in JSON.

    Visitors that the model can't answer for get the fallbacks of the other routes.
    """
    opened = parts(request)
    _require(opened, name, version)
    present = _version(opened)
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise InvalidRequestError("send the body without Content-Encoding")
    if _JSON_LENGTH in request.headers:
        raise InvalidRequestError(messages.NO_BINARY)
    inference = messages.read(await read_body(request, MOST_BODY_BYTES))
    answers = await opened.line.answer_each(messages.requests(inference))
    # Another model may have come into service meanwhile.
    version_of_answers = next((one.model_version for one in answers if one.model_version), present)
    return json_response(messages.response(inference, answers, version_of_answers))


def _version(opened: Parts) -> str | None:
    current = opened.models.current
    return current.version if current is not None else None


def _require(opened: Parts, name: str, version: str = "") -> None:
    """Raise `NotFoundError` where no such model, or no such version of it, is in service."""
    if name != messages.NAME:
        raise NotFoundError(
            f"there is no model {name!r}; there is {messages.NAME!r}", code="no_model"
        )
    present = _version(opened)
    if version and version != present:
        raise NotFoundError(
            f"version {version!r} is not in service; {present or 'none'} is", code="no_model"
        )


class ProtocolErrors:
    """The outermost layer of the app: below `/v2` it makes an `{"error": …}` of every problem.

    Problems come from routes, the guard, the router and the middleware that catches failures. So
    they are translated on their way out, and not where they arise.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or not (path == _PATH or path.startswith(f"{_PATH}/")):
            await self.app(scope, receive, send)
            return
        start: Message | None = None

        async def translated(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                if headers.get("content-type", "").startswith(PROBLEM_JSON):
                    start = message
                    return
            elif start is not None:  # a problem's body is one message
                body = orjson.dumps({"error": orjson.loads(message["body"])["detail"]})
                headers = MutableHeaders(raw=start["headers"])
                headers["content-type"] = "application/json"
                headers["content-length"] = str(len(body))
                await send(start)
                start, message = None, {"type": "http.response.body", "body": body}
            await send(message)

        await self.app(scope, receive, translated)
