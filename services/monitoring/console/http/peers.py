"""REST routes that pass a request on to another service (`ROUTES`)."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request, Response

from services.monitoring.console.peers import (
    MOST_BYTES,
    ROUTES,
    PeerClient,
    PeerRoute,
    PeerUnavailableError,
)
from slipstream.chassis.access.guard import requires
from slipstream.chassis.errors import TooLargeError, UnavailableError
from slipstream.chassis.logging import request_id
from slipstream.chassis.request_names import taking_any_name
from slipstream.contracts.access import Scope

PREFIX = "/v1/peers"

router = APIRouter(
    prefix=PREFIX,
    tags=["peers"],
    route_class=taking_any_name("the service that is asked refuses names that it does not have"),
)


def _passing_on(route: PeerRoute) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of a route. Its service documents it."""

    @requires(Scope.READ)
    async def pass_on(request: Request) -> Response:
        body = await request.body()
        if len(body) > MOST_BYTES:
            raise TooLargeError(f"The body has more than {MOST_BYTES} bytes")
        client: PeerClient = request.app.state.peers
        values, query = request.path_params, request.scope["query_string"]
        try:
            answer = await client.ask(route, values, query, body, request_id.get())
        except PeerUnavailableError as error:
            raise UnavailableError(str(error), code="peer_unavailable") from error
        headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
        if answer.retry_after:
            headers["Retry-After"] = answer.retry_after
        return Response(answer.content, answer.status, headers, answer.media_type)

    return pass_on


for each in ROUTES:
    router.add_api_route(
        f"/{each.service}{each.path}",
        _passing_on(each),
        methods=[each.method],
        include_in_schema=False,
    )
