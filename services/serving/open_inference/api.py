"""The routes of the Open Inference Protocol, version 2, and of Triton's extensions of it.

Errors are as the protocol has them: `{"error": …}`, whoever answers.
"""

import time
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request, Response
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from services.serving.http.responses import Parts, json_response, parts
from services.serving.open_inference import binary, bodies, descriptions, messages
from services.serving.open_inference.bodies import answered_by
from services.serving.open_inference.statistics import Statistics
from slipstream.chassis.access.guard import requires
from slipstream.chassis.bodies import packed, read_body, wanted_encoding
from slipstream.chassis.errors import InvalidRequestError, NotFoundError
from slipstream.chassis.request_names import taking_any_name
from slipstream.contracts.access import Scope
from slipstream.contracts.rest import PROBLEM_JSON

_PATH: Final = "/v2"
ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": bodies.InferenceError} for status in (400, 404)
}

router = APIRouter(
    prefix=_PATH,
    tags=["Open Inference Protocol"],
    default_response_class=Response,
    responses=ERRORS,
    route_class=taking_any_name("Triton's clients send any query_params of their callers"),
)
MODEL: Final = "/models/{name}"
VERSION: Final = "/models/{name}/versions/{version}"
# 64 ids of 256 bytes need a fifth of it, where JSON escapes every byte.
MOST_BODY_BYTES: Final = 524_288
ENCODINGS: Final = ("gzip", "deflate")
# Shorter answers are not worth the packing.
_PACKED_FROM_BYTES: Final = 1_024
# Headers of a problem that are not those of the error that it becomes.
_REPLACED: Final = (b"content-type", b"content-length")


@router.get("", **answered_by(bodies.ServerMetadata))
@requires(Scope.READ)
async def server_metadata() -> Response:
    """The server's name, version and extensions of the protocol."""
    return json_response(descriptions.server())


@router.get("/health/live", **answered_by(bodies.ServerLive))
@requires(Scope.READ)
async def server_live() -> Response:
    """Whether the server takes requests."""
    return json_response({"live": True})


@router.get("/health/ready", **answered_by(bodies.ServerReady, 503))
@requires(Scope.READ)
async def server_ready(request: Request) -> Response:
    """Whether a model is loaded. 503 until then, though recommendations are answered."""
    loaded = parts(request).models.current is not None
    return json_response({"ready": loaded}, 200 if loaded else 503)


@router.post("/repository/index", **bodies.INDEX)
@requires(Scope.READ)
async def repository_index(request: Request) -> Response:
    """The models of the repository: the recommender, and whether it is ready.

    With `{"ready": true}` only those that are.
    """
    opened = parts(request)
    body = await _body(request)
    try:
        fields = orjson.loads(body) if body.strip() else {}
    except orjson.JSONDecodeError as error:
        raise InvalidRequestError(f"the request is not JSON: {error}") from error
    if type(fields) is not dict or type(fields.get("ready", False)) is not bool:
        raise InvalidRequestError("send an object in which 'ready' is true or false")
    only_ready = fields.get("ready", False)
    return json_response(
        descriptions.index(_version(opened), opened.models.problem, ready=only_ready)
    )


@router.get("/models/stats", **answered_by(bodies.ModelStatistics))
@requires(Scope.READ)
async def all_statistics(request: Request) -> Response:
    """Counts and durations of inference by version, since this process began."""
    return json_response(_statistics(request).described())


@router.get(f"{MODEL}/stats", **answered_by(bodies.ModelStatistics))
@router.get(f"{VERSION}/stats", name="version_statistics", **answered_by(bodies.ModelStatistics))
@requires(Scope.READ)
async def model_statistics(request: Request, name: str, version: str = "") -> Response:
    """The same of one model, or of one version of it."""
    _require(parts(request), name, version)
    return json_response(_statistics(request).described(version))


@router.get(MODEL, **answered_by(bodies.ModelMetadata))
@router.get(VERSION, name="version_metadata", **answered_by(bodies.ModelMetadata))
@requires(Scope.READ)
async def model_metadata(request: Request, name: str, version: str = "") -> Response:
    """The model's versions, inputs and outputs."""
    opened = parts(request)
    _require(opened, name, version)
    return json_response(descriptions.metadata(_version(opened)))


@router.get(f"{MODEL}/config", **answered_by(bodies.ModelConfiguration))
@router.get(
    f"{VERSION}/config", name="version_configuration", **answered_by(bodies.ModelConfiguration)
)
@requires(Scope.READ)
async def model_configuration(request: Request, name: str, version: str = "") -> Response:
    """The model's configuration, in the fields of Triton's `ModelConfig`."""
    opened = parts(request)
    _require(opened, name, version)
    present = _version(opened)
    if present is None:
        raise NotFoundError(opened.models.problem or "no model is loaded yet", code="no_model")
    return json_response(descriptions.configuration(present))


@router.get(f"{MODEL}/ready", **answered_by(bodies.ModelReady, 503))
@router.get(f"{VERSION}/ready", name="version_ready", **answered_by(bodies.ModelReady, 503))
@requires(Scope.READ)
async def model_ready(request: Request, name: str, version: str = "") -> Response:
    """Whether the model, or this version of it, is in service."""
    opened = parts(request)
    _require(opened, name)
    present = _version(opened)
    loaded = present is not None and version in ("", present)
    return json_response({"name": name, "ready": loaded}, 200 if loaded else 503)


@router.post(f"{MODEL}/infer", **bodies.INFERENCE)
@router.post(f"{VERSION}/infer", name="infer_by_version", **bodies.INFERENCE)
@requires(Scope.READ)
async def infer(request: Request, name: str, version: str = "") -> Response:
    """Recommendations for the visitors of a BYTES tensor `user_id`.

    Visitors that the model can't answer for get the fallbacks of the other routes. Tensors are in
    the JSON, or after it (the binary tensor extension). Bodies may be gzip or deflate.
    """
    opened, measured = parts(request), _statistics(request)
    _require(opened, name, version)
    present = _version(opened)
    began = time.perf_counter_ns()
    try:
        body = await _body(request)
        inference = messages.read(body, request.headers.get(binary.JSON_LENGTH))
        requests = messages.requests(inference)
        read = time.perf_counter_ns()
        answers = await opened.line.answer_each(requests)
        answered = time.perf_counter_ns()
        # Another model may have come into service meanwhile.
        version_of_answers = next(
            (one.model_version for one in answers if one.model_version), present
        )
        response = _answer(
            messages.response(inference, answers, version_of_answers),
            messages.in_binary(inference),
            wanted_encoding(request.headers.get("accept-encoding", ""), ENCODINGS),
        )
    except Exception:
        measured.failed(present or "none", time.perf_counter_ns() - began)
        raise
    spent = (read - began, answered - read, time.perf_counter_ns() - answered)
    measured.succeeded(present or "none", len(requests), spent)
    return response


def _answer(answer: dict[str, Any], in_binary: set[str], encoding: str) -> Response:
    """The response with this answer. `encoding` is what the client takes, or empty."""
    body, json_length = binary.joined(answer, in_binary)
    headers = {"Vary": "Accept-Encoding"}
    if json_length is not None:
        headers[binary.JSON_LENGTH] = str(json_length)
    if encoding and len(body) >= _PACKED_FROM_BYTES:
        body, headers["Content-Encoding"] = packed(body, encoding), encoding
    media_type = "application/json" if json_length is None else "application/octet-stream"
    return Response(body, headers=headers, media_type=media_type)


async def _body(request: Request) -> bytes:
    encoding = request.headers.get("content-encoding", "").strip().lower()
    return await read_body(request, MOST_BODY_BYTES, encoding, ENCODINGS)


def _statistics(request: Request) -> Statistics:
    kept: Statistics = request.app.state.inference_statistics
    return kept


def _version(opened: Parts) -> str | None:
    current = opened.models.current
    return current.version if current is not None else None


def _require(opened: Parts, name: str, version: str = "") -> None:
    """Raise `NotFoundError` where no such model, or no such version of it, is in service."""
    if name != descriptions.NAME:
        raise NotFoundError(
            f"there is no model {name!r}; there is {descriptions.NAME!r}", code="no_model"
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
            if message["type"] == "http.response.start" and _is_problem(message):
                start = message
            elif start is not None and message["type"] == "http.response.body":
                # A problem's body is one message.
                problem = orjson.loads(message["body"])
                body = orjson.dumps({"error": problem["detail"]})
                kept = [pair for pair in start["headers"] if pair[0] not in _REPLACED]
                start["headers"] = [
                    *kept,
                    (b"content-type", b"application/json"),
                    (b"content-length", b"%d" % len(body)),
                ]
                await send(start)
                start = None
                await send({"type": "http.response.body", "body": body})
            else:
                await send(message)

        await self.app(scope, receive, translated)


def _is_problem(start: Message) -> bool:
    kind = next((value for name, value in start["headers"] if name == b"content-type"), b"")
    return bool(kind.startswith(PROBLEM_JSON.encode()))
