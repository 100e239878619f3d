"""Readiness of local services, asked over HTTP."""

import json
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from types import MappingProxyType
from typing import Any


def is_ready(port: int) -> bool:
    """Check that the service on this port is ready: all of its dependencies answer."""
    return why_unready(port) == ""


def why_unready(port: int) -> str:
    """Say why the service on this port is not ready; empty when it is."""
    try:
        status, body = get_json(port, "/health/ready")
    except (OSError, HTTPException, ValueError) as error:
        return f"no answer ({type(error).__name__})"
    if status == 200:
        return ""
    failing = (
        f"{name}: {verdict}" for name, verdict in body.get("checks", {}).items() if verdict != "ok"
    )
    return ", ".join(failing) or f"HTTP {status}"


def get_json(
    port: int, path: str, headers: Mapping[str, str] = MappingProxyType({})
) -> tuple[int, Any]:
    """Get a path from a port of this machine.

    Returns:
        The HTTP status, and the parsed body.

    Raises:
        OSError, HTTPException, ValueError: There is no answer, or it is not JSON.
    """
    # The standard library's client: making an httpx client costs 30 ms, much when five services
    # are asked several times a second.
    connection = HTTPConnection("127.0.0.1", port, timeout=3)
    try:
        connection.request("GET", path, headers=dict(headers))
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()
