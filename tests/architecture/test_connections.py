"""The table of services tells whom each of them connects to, as the code does."""

import re
from pathlib import Path

import pytest

from slipstream.contracts.services import SERVERS, SERVICES

ROOT = Path(__file__).parents[2]


def _source(service: str) -> str:
    return "".join(path.read_text() for path in sorted((ROOT / "services" / service).rglob("*.py")))


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_calls_the_peers_of_the_table(service: str) -> None:
    source = _source(service)
    called = set(re.findall(r"peers\.([a-z]+)_url", source))
    if 'getattr(peers, f"{name}_url") for name in SERVICES' in source:
        called = set(SERVICES) - {service}
    assert called == set(SERVICES[service].peers)
    assert ("lease" in source and "own_address" in source) == SERVICES[service].stands_by


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_uses_the_servers_of_the_table(service: str) -> None:
    used = set(re.findall(rf"settings\.({'|'.join(SERVERS)})\b", _source(service)))
    assert used == set(SERVICES[service].servers)


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
            ", ".join((*service.peers, *(["its own standby"] if service.stands_by else []))) or "–",
            ", ".join(service.servers),
        ]
        for name, service in SERVICES.items()
    }
