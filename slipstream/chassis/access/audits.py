"""The audit record of an act that a request asks for."""

from typing import Any

from starlette.requests import HTTPConnection

from slipstream.chassis.access.guard import principal_of
from slipstream.chassis.logging import request_id
from slipstream.contracts.rest import AuditRecord


def audit_record(
    request: HTTPConnection, action: str, subject: str, detail: dict[str, Any], at: int
) -> AuditRecord:
    """A record with the holder of the request's credentials, and the request's id.

    Args:
        request: The guarded request.
        action: The act, such as `create_key`.
        subject: Name or id of what it is done to.
        detail: More about it.
        at: When (ms).
    """
    return AuditRecord(
        at=at,
        principal=principal_of(request).name,
        action=action,
        subject=subject,
        detail=detail,
        request_id=request_id.get(),
    )
