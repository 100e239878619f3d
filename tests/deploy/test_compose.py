"""docker-compose.yml agrees with the code and with the images."""

import re
import socket
from pathlib import Path

import pytest

from services.serving.settings import ServingSettings
from services.serving.state.replica_folder import HOSTNAME
from slipstream.chassis.access.verifier import refuse_exposure
from slipstream.contracts.services import SERVICES
from tests.deploy.declared import (
    ADDRESSES,
    COMPOSE,
    ROOT,
    build_settings,
    compose_environment,
    image_environment,
    names_a_setting,
)
from tests.deploy.manifests import container

# Services that share out the partitions of their topics, or go on where they were.
GROUP_MEMBERS = {"features", "training", "monitoring"}


@pytest.mark.parametrize("service", SERVICES)
def test_compose_builds_and_publishes_each_service_on_this_machine_only(service: str) -> None:
    entry = COMPOSE["services"][service]
    assert entry["build"]["args"]["SERVICE"] == service
    assert entry["image"] == f"slipstream/{service}:local"
    assert entry["ports"] == [f"127.0.0.1:{SERVICES[service].port}:{SERVICES[service].port}"]


@pytest.mark.parametrize("service", SERVICES)
def test_compose_environment_makes_valid_settings(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = compose_environment(service)
    assert set(environment) >= ADDRESSES[service]
    settings = build_settings(service, image_environment(service) | environment, monkeypatch)
    assert (settings.http.host, settings.http.port) == ("0.0.0.0", SERVICES[service].port)
    refuse_exposure(settings)
    assert settings.kafka.bootstrap_servers == "kafka:9092"
    for name, peer in SERVICES.items():
        assert getattr(settings.peers, f"{name}_url") == f"http://{name}:{peer.port}"


@pytest.mark.parametrize("service", SERVICES)
def test_compose_names_the_members_of_groups_by_their_containers(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = build_settings(
        service, image_environment(service) | compose_environment(service), monkeypatch
    )
    assert settings.kafka.instance_id == (socket.gethostname() if service in GROUP_MEMBERS else "")


def test_compose_sets_only_variables_that_settings_know() -> None:
    given = {v for service in SERVICES for v in COMPOSE["services"][service]["environment"]}
    assert [v for v in given if not names_a_setting(v)] == []


def test_compose_gives_every_service_the_same_env_file() -> None:
    """Settings of several services, such as those of privacy, are set there once."""
    for service in SERVICES:
        assert COMPOSE["services"][service]["env_file"] == [{"path": ".env", "required": False}]


@pytest.mark.parametrize("service", SERVICES)
def test_compose_waits_for_servers_that_have_a_health_check(service: str) -> None:
    waits = COMPOSE["services"][service]["depends_on"]
    assert "kafka" in waits
    assert ("migrate" in waits) == ("postgres" in waits)
    for server, condition in waits.items():
        if server != "migrate":
            assert condition == {"condition": "service_healthy"}
            assert "healthcheck" in COMPOSE["services"][server]


def test_compose_migrates_once_and_starts_services_after_it() -> None:
    job = COMPOSE["services"]["migrate"]
    assert job["command"] == ["migrate"]
    assert job["image"] == COMPOSE["services"]["monitoring"]["image"]
    assert job["restart"].startswith("on-failure")
    assert job["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    own = compose_environment("migrate")
    waiting = [
        service
        for service in SERVICES
        if "SLIPSTREAM_DATABASE__URL" in compose_environment(service)
    ]
    assert waiting == ["training", "monitoring"]
    for service in waiting:
        assert COMPOSE["services"][service]["depends_on"]["migrate"] == {
            "condition": "service_completed_successfully"
        }
        assert compose_environment(service).items() >= own.items()


@pytest.mark.parametrize("service", SERVICES)
def test_compose_bounds_the_memory_of_a_service_as_its_manifest_does(service: str) -> None:
    limit = container(service)["resources"]["limits"]["memory"]
    assert f"{COMPOSE['services'][service]['mem_limit']}i" == limit.lower()


def test_compose_gives_each_serving_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = image_environment("serving") | compose_environment("serving")
    settings = build_settings("serving", environment, monkeypatch)
    assert isinstance(settings, ServingSettings)
    shared = image_environment("serving")["SLIPSTREAM_SERVING__CACHE_DIR"]
    assert settings.serving.cache_dir == Path(shared) / HOSTNAME
    assert COMPOSE["services"]["serving"]["volumes"] == [f"bundles:{shared}"]


def test_compose_publishes_nothing_beyond_this_machine() -> None:
    published = [port for entry in COMPOSE["services"].values() for port in entry.get("ports", [])]
    assert len(published) == len(set(published)) > len(SERVICES)
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []


def test_compose_header_documents_every_variable_with_its_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    header, body = text.split("\nname: slipstream\n")
    documented = dict(re.findall(r"^#   ([A-Z][A-Z_]+) +(\S+) ", header, re.MULTILINE))
    used = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", body))
    assert {name: value or "(none)" for name, value in used.items()} == documented


def test_compose_keeps_the_lake_between_its_writer_and_its_reader() -> None:
    volumes = {service: COMPOSE["services"][service].get("volumes", []) for service in SERVICES}
    lake = image_environment("features")["SLIPSTREAM_LAKE__URI"]
    assert f"lake:{lake}" in volumes["features"]
    assert f"lake:{lake}:ro" in volumes["training"]
