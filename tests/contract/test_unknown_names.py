"""Unknown names, of every route and command: each is refused, or listed here with its reason.

Routes and bodies come from the services' apps and OpenAPI documents, commands from the command
line. So a new one is checked without a line here.
"""

import re
from collections.abc import Iterator
from typing import Any

import click
import pytest
from click.testing import CliRunner
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from services.monitoring.console.peers import ROUTES as PEER_ROUTES
from slipstream.chassis.access.guard import routes_of
from slipstream.chassis.request_names import any_name_because
from slipstream.contracts.services import SERVICES
from slipstream_cli.__main__ import cli
from slipstream_cli.commands.openapi import app_of

# Routes that take any parameter, by the reason that their class gives.
ANY_PARAMETER = {
    "a link to a page may carry anything": {
        *("/docs", "/docs/{name}", "/", "/flow", "/live", "/visitors", "/visitors/{visitor_id}"),
        *("/items", "/items/{item_id}", "/shop", "/assets/{name}"),
        *("/runbook", "/runbook/{name}"),
    },
    "the service that is asked refuses names that it does not have": {
        f"/v1/peers/{each.service}{re.sub(':[a-z]+', '', each.path)}" for each in PEER_ROUTES
    },
    "scrapers add parameters of their own": {"/metrics"},
    "a probe that is refused would end a sound process": {"/health/live", "/health/ready"},
    "Segment's clients decide what they send, and no event is lost for it": {
        *(f"/v1/{name}" for name in ("track", "batch", "page", "screen", "identify", "group")),
        *(f"/v1/{name}" for name in ("alias", "import", "pixel.gif", *"tpsiga")),
    },
    "pages version the address of a script, and SDKs add their own": {
        "/v1/slipstream.js",
        "/v1/m",
        "/v1/projects/{write_key}/settings",
    },
    "Feast's clients decide what they send": {
        "/get-online-features",
        "/health",
    },
    "the protocol's clients send any query_params of their callers": {
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        *(
            f"/v2/models/{{name}}{version}{part}"
            for version in ("", "/versions/{version}")
            for part in ("", "/infer", "/ready")
        ),
    },
}
# Bodies, or parts of them, with free fields, by the reason.
ANY_FIELD = {
    "an item's and a user's attributes are the shop's": {
        "ingestion POST /v1/items items",
        "ingestion PATCH /v1/items items",
        "ingestion PATCH /v1/items/{item_id}",
        "ingestion POST /v1/users users",
        "ingestion PATCH /v1/users users",
        "ingestion PATCH /v1/users/{user_id}",
    },
    "Segment's messages have fields of the client's": {
        *(f"ingestion POST /v1/{name}" for name in ("track", "page", "screen", "identify")),
        *(f"ingestion POST /v1/{name}" for name in ("group", "alias", "batch", "import")),
        "ingestion POST /v1/batch batch",
        "ingestion POST /v1/import batch",
    },
    "the first line of a user's export is one, and has more": {
        "monitoring POST /v1/visitors:export",
    },
    "Feast's clients send fields of their version": {
        "features POST /get-online-features",
    },
    "Triton's and KServe's clients send parameters of their own": {
        "serving POST /v2/models/{name}/infer",
        "serving POST /v2/models/{name}/infer inputs",
        "serving POST /v2/models/{name}/infer outputs",
        "serving POST /v2/models/{name}/infer parameters",
        "serving POST /v2/models/{name}/versions/{version}/infer",
        "serving POST /v2/models/{name}/versions/{version}/infer inputs",
        "serving POST /v2/models/{name}/versions/{version}/infer outputs",
        "serving POST /v2/models/{name}/versions/{version}/infer parameters",
    },
    "a record's form ignores later fields; the body's check of it refuses them": {
        "serving POST /v1/answers/{recommendation_id}:what-if policy",
        "serving POST /v1/answers/{recommendation_id}:what-if policy rules",
        "serving POST /v1/prices draft policy",
        "serving POST /v1/prices draft policy rules",
    },
}


@pytest.fixture(scope="module")
def apps() -> dict[str, FastAPI]:
    return {service: app_of(service) for service in SERVICES}


def test_every_route_refuses_an_unknown_parameter_or_is_listed(apps: dict[str, FastAPI]) -> None:
    refused, listed = set[str](), dict[str, set[str]]()
    for service, app in apps.items():
        client = TestClient(app, raise_server_exceptions=False)
        for route in routes_of(app):
            if not isinstance(route, APIRoute):
                assert route.path == "/openapi.json"
                continue
            if reason := any_name_because(route):
                listed.setdefault(reason, set()).add(route.path)
                continue
            path = re.sub(r"\{[^}]*\}", "x", route.path)
            for method in route.methods or ():
                name = f"{service} {method} {route.path}"
                key = {"Authorization": "Basic c2hvcDo="}
                answer = client.request(method, path, params={"palcement": "home"}, headers=key)
                assert answer.status_code == 422, f"{name}: {answer.text}"
                (error,) = answer.json()["errors"]
                assert (error["field"], error["code"]) == ("query.palcement", "unknown_name"), name
                assert "did you mean" in error["reason"] or "there are" in error["reason"], name
                refused.add(name)
    assert {
        reason: {re.sub(":[a-z]+", "", p) for p in paths} for reason, paths in listed.items()
    } == ANY_PARAMETER
    assert len(refused) > 60


def test_campaigns_parameters_are_no_unknown_names(apps: dict[str, FastAPI]) -> None:
    client = TestClient(apps["monitoring"], raise_server_exceptions=False)
    added = {"utm_source": "mail", "gclid": "x", "fbclid": "x", "_": "1"}
    assert client.get("/v1/placements", params=added).status_code != 422
    assert client.get("/v1/placements", params={**added, "utmsource": "x"}).status_code == 422


def test_every_body_refuses_unknown_fields_or_is_listed(apps: dict[str, FastAPI]) -> None:
    free = {
        f"{service} {method.upper()} {path}{place}"
        for service, app in apps.items()
        for path, operations in app.openapi()["paths"].items()
        for method, operation in operations.items()
        for content in operation.get("requestBody", {}).get("content", {}).values()
        for place in free_places(content["schema"], app.openapi()["components"]["schemas"])
    }
    assert free == {place for places in ANY_FIELD.values() for place in places}


def free_places(schema: Any, named: dict[str, Any], place: str = "") -> Iterator[str]:
    """The places of objects with named fields that take others, too."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        # Not again inside itself.
        schema, named = named.get(name, {}), {k: v for k, v in named.items() if k != name}
    if "properties" in schema:
        if schema.get("additionalProperties") is not False:
            yield place
        for name, inner in schema["properties"].items():
            yield from free_places(inner, named, f"{place} {name}")
    parts = [
        *filter(None, [schema.get("items")]),
        *schema.get("anyOf", ()),
        *schema.get("oneOf", ()),
    ]
    for part in parts:
        yield from free_places(part, named, place)


@pytest.mark.parametrize(
    ("service", "path", "body", "field", "meant"),
    [
        ("serving", "/v1/recommendations", {"user_id": "a", "filters": "x"}, "filters", "filter"),
        ("serving", "/v1/recommendations", {"user_id": "a", "count": 5}, "count", "n"),
        ("serving", "/v1/recommendations", {"userId": "a"}, "userId", "user_id"),
        (
            "serving",
            "/v1/rank",
            {"user_id": "a", "items": [{"item_id": "b", "feature": {}}]},
            "items.0.feature",
            "features",
        ),
        ("serving", "/v1/recommendations:batch", {"users": ["a"]}, "users", "user_ids"),
        ("serving", "/v1/answers/x:what-if", {"diversty": 1}, "diversty", "diversity"),
        ("training", "/v1/runs", {"reasons": "x"}, "reasons", "reason"),
        ("monitoring", "/v1/keys", {"name": "a", "scope": ["read"]}, "scope", "scopes"),
    ],
)
def test_unknown_fields_name_the_one_that_is_meant(
    apps: dict[str, FastAPI], service: str, path: str, body: Any, field: str, meant: str
) -> None:
    answer = TestClient(apps[service]).post(path, json=body)
    errors = {error["field"]: error for error in answer.json()["errors"]}
    found = errors[f"body.{field}"]
    assert (answer.status_code, found["code"]) == (422, "unknown_name")
    assert found["reason"] == f"unknown field; did you mean {meant}?"


def commands(command: click.Command = cli, path: tuple[str, ...] = ()) -> Iterator[Any]:
    """Every command with its words."""
    yield path
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, (*path, name))


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_every_command_refuses_an_unknown_option(words: tuple[str, ...]) -> None:
    answer = CliRunner().invoke(cli, [*words, "--no-such-option"])
    assert answer.exit_code == 2
    assert "No such option '--no-such-option'" in answer.output
