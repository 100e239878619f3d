"""The table of services tells whom each of them connects to, as the code does."""

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

from slipstream.contracts.services import SERVERS, SERVICES

ROOT = Path(__file__).parents[2]


@cache
def _read(service: str) -> dict[str, set[str]]:
    """The attributes that a service's code reads, by the name of their object; under "" the names
    themselves. `getattr` of a name that is made up is "*".
    """
    found = defaultdict[str, set[str]](set)
    for path in (ROOT / "services" / service).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Name(id=name):
                    found[""].add(name)
                case ast.Attribute(
                    value=ast.Name(id=owner) | ast.Attribute(attr=owner), attr=attribute
                ):
                    found[owner.lstrip("_")].add(attribute)
                case ast.Call(
                    func=ast.Name(id="getattr"), args=[ast.Name(id=owner), ast.JoinedStr(), *_]
                ):
                    found[owner].add("*")
    return found


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_calls_the_peers_of_the_table(service: str) -> None:
    read = _read(service)
    every = set(SERVICES) - {service}
    called = {name for name in every if read["peers"] & {f"{name}_url", "*"}}
    assert called == set(SERVICES[service].peers)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_uses_the_servers_of_the_table(service: str) -> None:
    assert _read(service)["settings"] & set(SERVERS) == set(SERVICES[service].servers)


def test_the_architecture_shows_the_table() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    rows = {
        cells[0]: cells[1:]
        for line in text.splitlines()
        if (cells := [cell.strip() for cell in line.strip("|").split("|")])[0] in SERVICES
    }
    assert rows == {
        name: [
            ", ".join(["clients"] if service.public else []) or "–",
            ", ".join(service.peers) or "–",
            ", ".join(service.servers),
        ]
        for name, service in SERVICES.items()
    }
