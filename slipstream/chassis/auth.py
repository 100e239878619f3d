"""The bearer token that the services' own APIs may ask for."""

import hmac

from fastapi import Request

from slipstream.chassis.errors import UnauthorizedError


async def require_api_token(request: Request) -> None:
    """A dependency: passes when no token is configured, or when the caller sent it; else 401."""
    expected: str = request.app.state.settings.http.api_token.get_secret_value()
    if not expected:
        return
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), expected.encode()):
        raise UnauthorizedError("Send the API token: 'Authorization: Bearer …' (SLIPSTREAM_HTTP__API_TOKEN on the server)")
