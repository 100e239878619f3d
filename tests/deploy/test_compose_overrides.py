"""The files of deploy/compose fit docker-compose.yml, and one another."""

import re
from typing import Any

import pytest
import yaml

from slipstream.contracts.services import SERVICES
from tests.deploy.declared import COMPOSE, ROOT, names_a_setting

FOLDER = ROOT / "deploy" / "compose"
# Services that run as several behind the proxy.
SCALED = ("ingestion", "features", "serving")
PROXY = (FOLDER / "haproxy.cfg").read_text()


class ComposeLoader(yaml.SafeLoader):
    """Reads Compose's own tags as the values that they are put on."""


for tag in ("!reset", "!override"):
    ComposeLoader.add_constructor(tag, lambda loader, node: loader.construct_sequence(node))


def override(name: str) -> dict[str, dict[str, Any]]:
    text = (FOLDER / name).read_text()
    services: dict[str, dict[str, Any]] = yaml.load(text, ComposeLoader)["services"]  # noqa: S506
    return services


@pytest.mark.parametrize("name", ["scale.yml", "public.yml", "alertmanager.yml"])
def test_override_changes_services_that_are_there_by_settings_that_they_know(name: str) -> None:
    services = override(name)
    assert set(services) - {"proxy", "alertmanager"} <= set(COMPOSE["services"])
    given = {v for entry in services.values() for v in entry.get("environment", {})}
    assert [v for v in given if v.startswith("SLIPSTREAM_") and not names_a_setting(v)] == []


def test_proxy_takes_the_ports_of_the_services_that_are_several() -> None:
    services = override("scale.yml")
    assert [name for name, entry in services.items() if entry.get("ports") == []] == list(SCALED)
    freed = [port for name in SCALED for port in COMPOSE["services"][name]["ports"]]
    assert services["proxy"]["ports"] == freed


@pytest.mark.parametrize("service", SCALED)
def test_proxy_asks_the_replicas_of_a_service_by_its_name_and_port(service: str) -> None:
    section = re.search(rf"^listen {service}\n((?: +.*\n)+)", PROXY, re.MULTILINE)
    assert section
    port = SERVICES[service].port
    assert f"bind :{port}\n" in section[1]
    assert f"server-template {service} 1-12 {service}:{port}\n" in section[1]
    assert f"nbsrv({service}) lt 1" in PROXY


def test_prometheus_looks_for_every_replica_at_its_port() -> None:
    (job,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    assert {
        name: config["port"] for config in job["dns_sd_configs"] for name in config["names"]
    } == {name: service.port for name, service in SERVICES.items()}


def test_ports_that_leave_the_machine_have_secrets_without_a_default() -> None:
    text, services = (FOLDER / "public.yml").read_text(), override("public.yml")
    published = {name for name, entry in services.items() if "ports" in entry}
    assert published == {"ingestion", "serving"}
    asked = set(re.findall(r"\$\{(\w+):\?", text))
    defaults = set(re.findall(r"\$\{(\w+):-", (ROOT / "docker-compose.yml").read_text()))
    secrets = {name for name in defaults if re.search("KEYS|TOKEN|PASSWORD", name)}
    assert asked == secrets
    assert set(re.findall(r"\$\{\w+", text)) == {f"${{{name}" for name in asked}
    for service in SERVICES:
        environment = services[service]["environment"]
        assert environment["SLIPSTREAM_HTTP__OPEN_WITHOUT_CREDENTIALS"] == "false"


def test_alertmanager_is_found_by_prometheus() -> None:
    services = override("alertmanager.yml")
    (listed,) = yaml.safe_load(
        (ROOT / "deploy" / "observability" / "alertmanagers" / "compose.yml").read_text()
    )
    assert listed["targets"] == ["alertmanager:9093"]
    assert services["alertmanager"]["ports"] == ["127.0.0.1:9093:9093"]
