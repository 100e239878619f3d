"""Demands of routes: every route of every service declares one, and the guard keeps to it."""

from functools import cache

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient
from starlette.routing import Route

from generate.reference_pages import security_page
from slipstream.chassis.access.guard import (
    Demand,
    Demands,
    UndeclaredRouteError,
    demand_of,
    open_to_all,
    requires,
    routes_of,
)
from slipstream.chassis.app import create_service
from slipstream.chassis.settings import HttpSettings, ServiceSettings
from slipstream.contracts.access import Scope
from slipstream.contracts.services import SERVICES
from slipstream_cli.commands.openapi import app_of
from tests.unit.chassis.access.key_records import key_record

# Routes that anybody may ask; whoever adds one says here why.
OPEN = {
    "/openapi.json": "the description of the API",
    "/docs": "the same for people",
    "/docs/{name}": "its script, styles and icon",
    "/health/live": "probes",
    "/health/ready": "probes",
    "/metrics": "Prometheus",
    "/health": "Feast's probes",
    **dict.fromkeys(
        (
            "/", "/flow", "/live", "/visitors", "/visitors/{visitor_id:path}", "/items",
            "/items/{item_id:path}", "/shop", "/assets/{name:path}",
        ),
        "the console's pages, which have no data and ask to sign in; elsewhere / is an index",
    ),
    **dict.fromkeys(("/runbook", "/runbook/{name}"), "pages without data, for who is on call"),
    "/v1/console": "what those pages show before anyone has signed in",
    "/v1/session": "the sign-in itself, which judges what it is sent",
    "/v1/slipstream.js": "the script in every page",
    "/v1/m": "counts of Segment's browser library, which come without a key and are not kept",
}  # fmt: skip


@pytest.fixture(scope="module")
def apps() -> dict[str, FastAPI]:
    return {service: app_of(service) for service in SERVICES}


@pytest.fixture(scope="module")
def page() -> str:
    return security_page()


def test_only_the_routes_named_here_are_open(apps: dict[str, FastAPI]) -> None:
    opened = {
        route.path
        for app in apps.values()
        for route in routes_of(app)
        if demand_of(route).scope is None
    }
    assert opened == set(OPEN)


@pytest.mark.parametrize("service", SERVICES)
def test_every_route_stands_in_the_table_with_its_scope(
    service: str, apps: dict[str, FastAPI], page: str
) -> None:
    section = page.partition(f"## {service.capitalize()}\n")[2]
    table = section.partition("\n## ")[0]
    for route in routes_of(apps[service]):
        demand, methods = demand_of(route), ", ".join(sorted(route.methods or ()))
        needed = f"`{demand.scope}`" if demand.scope else "open"
        needed += f" or `{demand.also}`" if demand.also else ""
        row = f"| {methods} | `{route.path}` | {needed} |"
        assert row in table.splitlines()
    documented = set(apps[service].openapi()["paths"])
    shown = {route.path_format for route in routes_of(apps[service])}
    assert documented <= shown


@pytest.mark.parametrize("service", [name for name in SERVICES if name != "ingestion"])
def test_no_route_of_a_guarded_service_answers_a_stranger_unless_it_is_open(service: str) -> None:
    """Asks each route of the real app without a credential."""
    client, routes = guarded(service)
    for route in routes:
        for method in route.methods or ():
            assert client.request(method, path_of(route)).status_code == 401, route.path


@pytest.mark.parametrize("service", [name for name in SERVICES if name != "ingestion"])
def test_every_other_scope_together_opens_no_guarded_route(service: str) -> None:
    client, routes = guarded(service)
    for route in routes:
        demand = demand_of(route)
        others = [scope for scope in Scope if not demand.is_met_by({scope})]
        client.app.state.keys.take(key_record("others", others))  # type: ignore[attr-defined]
        lacking = {"Authorization": "Bearer others"}
        for method in route.methods or ():
            answer = client.request(method, path_of(route), headers=lacking)
            assert answer.status_code == 403, (method, route.path)
            assert f"lacks the scope {demand.scope}" in answer.text or method == "HEAD"


def test_a_slate_needs_operate_and_services_have_a_scope_for_it(apps: dict[str, FastAPI]) -> None:
    of_slates = [
        demand_of(route)
        for app in apps.values()
        for route in routes_of(app)
        if demand_of(route).also is Scope.SERVICE
    ]
    assert of_slates == [Demand(Scope.OPERATE, also=Scope.SERVICE)] * 3
    client, routes = guarded("features")
    for route in routes:
        if not route.path.startswith("/v1/slates"):
            continue
        for scope, opened in ((Scope.READ, False), (Scope.OPERATE, True), (Scope.SERVICE, True)):
            client.app.state.keys.take(key_record(f"of-{scope}", [scope]))  # type: ignore[attr-defined]
            key = {"Authorization": f"Bearer of-{scope}"}
            # Without a lake the route behind the guard fails.
            answer = TestClient(client.app, "http://127.0.0.1", raise_server_exceptions=False).get(
                path_of(route), headers=key
            )
            assert (answer.status_code != 403) == opened, (route.path, scope, answer.text)


@cache
def guarded(service: str) -> tuple[TestClient, list[Route]]:
    """A client of the real app, which is not entered, and its routes that are not open."""
    app = app_of(service, HttpSettings(api_token="s3cret"))  # type: ignore[arg-type]
    routes = [route for route in routes_of(app) if demand_of(route).scope is not None]
    # A host that a service takes changes for.
    return TestClient(app, base_url="http://127.0.0.1"), routes


def path_of(route: Route) -> str:
    return route.path_format.format_map(dict.fromkeys(route.param_convertors, "x"))


def test_a_route_that_declares_nothing_is_refused_when_the_service_is_built() -> None:
    router = APIRouter()

    @router.get("/forgotten")
    async def forgotten() -> None:
        """Nothing."""

    with pytest.raises(UndeclaredRouteError, match=r"/forgotten: declare @requires"):
        create_service(
            "probe",
            ServiceSettings(),
            description="",
            lifespan=None,  # type: ignore[arg-type]
            routers=[router],
        )


def test_a_wrong_method_has_its_path_s_demand_and_an_unknown_path_none() -> None:
    router = APIRouter()

    @router.get("/{name:path}")
    @open_to_all
    async def anything() -> None:
        """Nothing."""

    @router.delete("/runs/{run}")
    @requires(Scope.ADMIN)
    async def delete() -> None:
        """Nothing."""

    demands = Demands(router.routes)  # type: ignore[arg-type]

    def of(method: str, path: str) -> Demand | None:
        return demands.of({"type": "http", "method": method, "path": path})

    assert of("DELETE", "/runs/1") == of("PUT", "/runs/1") == Demand(Scope.ADMIN)
    assert of("GET", "/other") == Demand(None)
    assert of("GET", "nowhere") is None
