"""Errors that clients see: problem+json (RFC 9457) with a stable `code`."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from slipstream.chassis.dependencies import DependencyUnavailableError
from slipstream.chassis.logging import request_id
from slipstream.chassis.request_names import MOST_FAULTS, unknown_field
from slipstream.contracts.rest import PROBLEM_JSON, Problem
from slipstream.contracts.services import owners_of


class ServiceError(Exception):
    """An error with its HTTP status and stable code; `detail` tells the client how to mend it."""

    status = 500
    code = "internal_error"
    title = "Something went wrong"

    def __init__(
        self, detail: str, *, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or type(self).code
        self.headers = dict(headers or {})


class InvalidRequestError(ServiceError):
    status, code, title = 400, "invalid_request", "The request is not valid"


class UnauthorizedError(ServiceError):
    status, code, title = 401, "unauthorized", "Credentials are missing or wrong"


class ForbiddenError(ServiceError):
    status, code, title = 403, "forbidden", "The credentials do not allow this"


class NotFoundError(ServiceError):
    status, code, title = 404, "not_found", "There is no such thing"


class ConflictError(ServiceError):
    status, code, title = 409, "conflict", "That does not fit the present state"


class GoneError(ServiceError):
    status, code, title = 410, "gone", "It was deleted"


class PreconditionFailedError(ServiceError):
    status, code, title = 412, "precondition_failed", "It has changed meanwhile"


class TooLargeError(ServiceError):
    status, code, title = 413, "too_large", "The request is too large"


class TooManyRequestsError(ServiceError):
    """The client exceeded its rate: `limit` at once, and again after `retry_after_s` seconds."""

    status, code, title = 429, "rate_limited", "Too much was sent"

    def __init__(self, detail: str, *, retry_after_s: int, limit: int) -> None:
        headers = {
            "RateLimit-Limit": limit,
            "RateLimit-Remaining": 0,
            "RateLimit-Reset": retry_after_s,
        }
        super().__init__(
            detail,
            headers={"Retry-After": str(retry_after_s), **{k: str(v) for k, v in headers.items()}},
        )


class UnavailableError(ServiceError):
    """A dependency is unavailable; the client should retry after `retry_after_s` seconds."""

    status, code, title = 503, "unavailable", "A dependency is not available"

    def __init__(self, detail: str, *, code: str | None = None, retry_after_s: int = 1) -> None:
        super().__init__(detail, code=code, headers={"Retry-After": str(retry_after_s)})


def problem(
    status: int,
    code: str,
    title: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    errors: list[dict[str, Any]] | None = None,
) -> Response:
    """Build a problem+json response. Clients may branch on `code`; `errors` has of each invalid
    field its name, the reason and a code.
    """
    body = Problem(
        title=title,
        status=status,
        detail=detail,
        code=code,
        request_id=request_id.get(),
        errors=errors or [],
    )
    return Response(body.model_dump_json(), status, dict(headers or {}), PROBLEM_JSON)


def problem_of(error: ServiceError) -> Response:
    """The response for an error."""
    return problem(error.status, error.code, error.title, error.detail, headers=error.headers)


def unexpected(error: Exception) -> Response:
    """The response for an unforeseen failure: it names the class, and the log has the rest."""
    return problem(
        500,
        "internal_error",
        "Something went wrong",
        f"{type(error).__name__}; the log has more under this request id",
    )


_HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 401: "unauthorized"}


def _in_words(request: Request, fault: Mapping[str, Any]) -> Mapping[str, Any]:
    """A fault with the words for what a client most often gets wrong."""
    if fault["type"] == "extra_forbidden":
        body_field = request.scope["route"].body_field
        return unknown_field(body_field and body_field.field_info.annotation, fault["loc"])
    if fault["loc"] != ("body",):
        return fault
    if fault["type"] == "missing":
        words = "is missing: send JSON"
    elif isinstance(fault.get("input"), bytes):
        sent = request.headers.get("content-type")
        words = "send it with the header Content-Type: application/json, "
        words += f"not {sent}" if sent else "which is missing"
    elif fault["type"] in ("model_attributes_type", "model_type", "dict_type"):
        words = "must be a JSON object"
    else:
        return fault
    return {**fault, "msg": words}


def _elsewhere(service: str, path: str) -> str:
    """Which other services to ask for a path that this one lacks; empty where none has it."""
    owners = [f"{owner.name} ({owner.port})" for owner in owners_of(path) if owner.name != service]
    # The rest of the path may name a visitor.
    known = "/".join(path.split("/")[:3])
    return f"this is {service}; ask {' or '.join(owners)} for {known}" if owners else ""


def install_error_handlers(app: FastAPI, service: str) -> None:
    """Answer foreseen failures of a service's routes as problem+json.

    The request middleware answers others.
    """

    async def service_error(_request: Request, error: Exception) -> Response:
        assert isinstance(error, ServiceError)  # noqa: S101
        return problem_of(error)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        faults = (_in_words(request, fault) for fault in error.errors()[:MOST_FAULTS])
        errors = [
            {"field": ".".join(map(str, e["loc"])), "reason": e["msg"], "code": e["type"]}
            for e in faults
        ]
        detail = "; ".join(f"{e['field']}: {e['reason']}" for e in errors[:5])
        return problem(422, "invalid_request", "The request is not valid", detail, errors=errors)

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        code = _HTTP_CODES.get(error.status_code, f"http_{error.status_code}")
        title = detail = str(error.detail)
        if error.status_code in (404, 405):
            detail = _elsewhere(service, request.url.path) or detail
        return problem(error.status_code, code, title, detail, headers=error.headers)

    async def away(_request: Request, error: Exception) -> Response:
        assert isinstance(error, DependencyUnavailableError)  # noqa: S101
        return problem_of(UnavailableError(str(error), code=f"{error.dependency}_unavailable"))

    app.add_exception_handler(ServiceError, service_error)
    app.add_exception_handler(DependencyUnavailableError, away)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)
