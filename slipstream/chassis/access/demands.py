"""Demands of routes: the scope that a request to each of them needs."""

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Final, NamedTuple, TypeVar

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Route
from starlette.types import Scope as Connection

from slipstream.contracts.access import Scope

F = TypeVar("F", bound=Callable[..., Any])

_DEMAND: Final = "__slipstream_demand__"


class UndeclaredRouteError(TypeError):
    """A route says neither which scope it needs nor that it is open to all."""


class Demand(NamedTuple):
    """The scope that a route needs; None where it is open to all.

    With `or_service`, the scope `service` does, too.
    """

    scope: Scope | None
    or_service: bool = False

    def is_met_by(self, scopes: Collection[Scope]) -> bool:
        """Whether these scopes open the route."""
        return self.scope in scopes or (self.or_service and Scope.SERVICE in scopes)


def requires(scope: Scope, *, or_service: bool = False) -> Callable[[F], F]:
    """Declare the scope that an endpoint needs. Stands below the route's own decorator.

    `or_service` is for a route that another service calls, and a person needs more than `read` for.
    """

    def declare(endpoint: F) -> F:
        setattr(endpoint, _DEMAND, Demand(scope, or_service))
        return endpoint

    return declare


def open_to_all(endpoint: F) -> F:
    """Declare that an endpoint needs no credentials: it holds nothing that is not public."""
    setattr(endpoint, _DEMAND, Demand(None))
    return endpoint


def demand_of(route: Route) -> Demand:
    """The demand that a route's endpoint declares.

    FastAPI's own pages about the API are no `APIRoute`, and open to all. Raises
    `UndeclaredRouteError`.
    """
    if not isinstance(route, APIRoute):
        return Demand(None)
    declared: Demand | None = getattr(route.endpoint, _DEMAND, None)
    if declared is None:
        raise UndeclaredRouteError(
            f"{route.path}: declare @requires(Scope.…) or @open_to_all on {route.endpoint.__name__}"
        )
    return declared


def routes_of(app: FastAPI) -> Iterator[Route]:
    """Every route of an app, those of its routers among them."""

    def walk(routes: Iterable[BaseRoute]) -> Iterator[Route]:
        for route in routes:
            included = getattr(route, "original_router", None)
            if included is not None:
                yield from walk(included.routes)
            elif isinstance(route, Route):
                yield route

    return walk(app.router.routes)


class Demands:
    """The demands of a service's routes, found by a request's path and method.

    The service is served at the root, so that a request's path is its route's.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        # Open ones last: few requests are for them, and of two that match the stricter one counts.
        self._routes: list[tuple[Route, Demand]] = sorted(
            ((route, demand_of(route)) for route in routes), key=lambda entry: not entry[1].scope
        )

    def of(self, connection: Connection) -> Demand | None:
        """The demand of the route that answers this request; None where there is no such path.

        A wrong method on a known path has that path's demand.
        """
        found = self._find(connection)
        return None if found is None else found[1]

    def path_of(self, connection: Connection) -> str:
        """The path of that route, with the names of its parameters; empty where there is none."""
        found = self._find(connection)
        return "" if found is None else found[0].path

    def _find(self, connection: Connection) -> tuple[Route, Demand] | None:
        path, method = connection["path"], connection["method"]
        of_path: tuple[Route, Demand] | None = None
        for route, demand in self._routes:
            if route.path_regex.match(path):
                if method in (route.methods or ()):
                    return route, demand
                of_path = of_path or (route, demand)
        return of_path
