"""The Kubernetes manifests agree with the code, with the images and with docker-compose.yml."""

import re
import tomllib
from pathlib import Path

import pytest

from slipstream.chassis import health
from slipstream.chassis.access.verifier import refuse_exposure
from slipstream.contracts.services import SERVICES
from tests.deploy.declared import (
    ADDRESSES,
    ROOT,
    build_settings,
    image_environment,
    names_a_setting,
)
from tests.deploy.manifests import (
    KUBERNETES,
    LOCAL,
    NAMED,
    container,
    documents,
    kustomization,
    manifest,
    workload,
)


def literals(folder: Path, generator: str, name: str) -> dict[str, str]:
    (found,) = [g for g in kustomization(folder)[generator] if g["name"] == name]
    return dict(literal.split("=", 1) for literal in found["literals"])


@pytest.mark.parametrize("service", SERVICES)
def test_manifest_of_a_service_carries_its_name_everywhere(service: str) -> None:
    found = workload(service)
    pod = found["spec"]["template"]
    selector = {"app.kubernetes.io/name": service}
    assert found["spec"]["selector"]["matchLabels"] == selector
    assert manifest(service, "Service")["spec"]["selector"] == selector
    assert selector.items() <= pod["metadata"]["labels"].items()
    assert (
        pod["spec"]["serviceAccountName"]
        == manifest(service, "ServiceAccount")["metadata"]["name"]
        == service
    )
    for document in documents(KUBERNETES / "base" / f"{service}.yaml"):
        assert document["metadata"]["name"] == service
        assert "namespace" not in document["metadata"]
        assert set(document["metadata"]["labels"]) == {
            "app.kubernetes.io/name",
            "app.kubernetes.io/component",
        }


@pytest.mark.parametrize("service", SERVICES)
def test_manifest_probes_paths_and_port_that_the_service_has(service: str) -> None:
    paths = {getattr(route, "path", "") for route in health.router.routes}
    assert container(service)["ports"] == [
        {"name": "http", "containerPort": SERVICES[service].port}
    ]
    (port,) = manifest(service, "Service")["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (SERVICES[service].port, "http")
    probes = {
        probe: container(service)[f"{probe}Probe"] for probe in ("startup", "liveness", "readiness")
    }
    asked = {name: probe["httpGet"]["path"] for name, probe in probes.items()}
    assert asked == {
        "startup": "/health/live",
        "liveness": "/health/live",
        "readiness": "/health/ready",
    }
    assert set(asked.values()) <= paths
    # A dependency that hangs is named within the check's own limit; the probe must outwait it.
    assert probes["readiness"]["timeoutSeconds"] > health.Health()._limit_s


@pytest.mark.parametrize("service", SERVICES)
def test_manifest_names_a_group_member_where_the_pods_name_outlives_the_pod(service: str) -> None:
    variables = {variable["name"]: variable["valueFrom"] for variable in container(service)["env"]}
    assert {v for v in variables if not names_a_setting(v)} <= {"OMP_NUM_THREADS"}
    named = {"fieldRef": {"fieldPath": "metadata.name"}} if service in NAMED else None
    assert variables.get("SLIPSTREAM_KAFKA__INSTANCE_ID") == named
    if service in NAMED:
        assert (
            workload(service)["spec"]["serviceName"]
            == manifest(service, "Service")["metadata"]["name"]
        )


@pytest.mark.parametrize("service", SERVICES)
def test_manifest_is_restricted_and_bounded(service: str) -> None:
    pod = workload(service)["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert (
        pod["securityContext"].items()
        >= {"runAsNonRoot": True, "runAsUser": 10001, "fsGroup": 10001}.items()
    )
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(service)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    resources = container(service)["resources"]
    assert set(resources["requests"]) == set(resources["limits"]) == {"cpu", "memory"}
    volumes = {volume["name"] for volume in pod["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container(service)["volumeMounts"]}
    assert set(mounts) == volumes
    assert mounts["tmp"] == "/tmp"  # noqa: S108 - the container's


@pytest.mark.parametrize("service", SERVICES)
def test_manifest_of_local_overlay_makes_valid_settings(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = literals(KUBERNETES / "base", "configMapGenerator", "slipstream-settings")
    shared |= literals(LOCAL, "configMapGenerator", "slipstream-settings")
    secrets = literals(LOCAL, "secretGenerator", "slipstream-secrets")
    references = {
        variable["name"]: variable["valueFrom"]["secretKeyRef"]
        for variable in container(service)["env"]
        if "secretKeyRef" in variable["valueFrom"]
    }
    missing = [
        r["key"] for r in references.values() if r["key"] not in secrets and not r.get("optional")
    ]
    assert missing == []
    own = {variable: secrets[r["key"]] for variable, r in references.items() if r["key"] in secrets}
    assert set(own) | set(shared) >= ADDRESSES[service]
    assert [v for v in {*shared, *references} if not names_a_setting(v)] == []
    settings = build_settings(service, image_environment(service) | shared | own, monkeypatch)
    assert settings.kafka.replication_factor == 1
    refuse_exposure(settings)
    assert not settings.http.open_without_credentials
    for name, peer in SERVICES.items():
        assert getattr(settings.peers, f"{name}_url") == f"http://{name}:{peer.port}"


@pytest.mark.parametrize("service", SERVICES)
def test_manifest_takes_the_credentials_of_servers_from_the_secret(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        "kafka-sasl-username": "slipstream",
        "kafka-sasl-password": "s3cret",
        "lake-storage-options": '{"AWS_SECRET_ACCESS_KEY": "k3y"}',
    }
    references = {
        variable["name"]: variable["valueFrom"]["secretKeyRef"]
        for variable in container(service)["env"]
        if variable.get("valueFrom", {}).get("secretKeyRef", {}).get("key") in given
    }
    assert all(reference["optional"] for reference in references.values())
    environment = {name: given[reference["key"]] for name, reference in references.items()}
    shared = literals(KUBERNETES / "base", "configMapGenerator", "slipstream-settings")
    own = {"SLIPSTREAM_INGESTION__WRITE_KEYS": "shop:k"}
    settings = build_settings(
        service, image_environment(service) | shared | own | environment, monkeypatch
    )
    assert settings.kafka.sasl_username == "slipstream"
    assert settings.kafka.sasl_password.get_secret_value() == "s3cret"
    options = {"AWS_SECRET_ACCESS_KEY": "k3y"} if "lake" in SERVICES[service].servers else {}
    assert settings.lake.storage_options == options


def test_no_manifest_holds_a_credential_itself() -> None:
    """Variables of the kinds that name credentials come from the Secret."""
    for service in SERVICES:
        for variable in container(service)["env"]:
            if re.search(
                "PASSWORD|USERNAME|TOKEN|_KEY|_KEYS|_URL|STORAGE_OPTIONS", variable["name"]
            ):
                assert "secretKeyRef" in variable["valueFrom"], variable["name"]
    shared = literals(KUBERNETES / "base", "configMapGenerator", "slipstream-settings")
    assert not [name for name in shared if re.search("PASSWORD|TOKEN|STORAGE_OPTIONS", name)]


def test_manifest_gives_the_key_of_hashes_to_ingestion_alone() -> None:
    keys = {
        service: variable["valueFrom"]["secretKeyRef"]["key"]
        for service in SERVICES
        for variable in container(service)["env"]
        if variable["name"] == "SLIPSTREAM_PRIVACY__HASH_KEY"
    }
    assert keys == {"ingestion": "privacy-hash-key"}


def test_manifest_mounts_volumes_where_the_images_keep_their_data() -> None:
    mounts = {
        s: {m["name"]: m["mountPath"] for m in container(s)["volumeMounts"]} for s in SERVICES
    }
    environment = image_environment("training")
    assert (
        mounts["features"]["lake"]
        == mounts["training"]["lake"]
        == environment["SLIPSTREAM_LAKE__URI"]
    )
    assert mounts["training"]["models"] == environment["SLIPSTREAM_ARTIFACTS__DIRECTORY"]
    assert mounts["serving"]["bundles"] == environment["SLIPSTREAM_SERVING__CACHE_DIR"]


def test_kustomizations_list_every_file_image_and_the_version() -> None:
    base, local = kustomization(KUBERNETES / "base"), kustomization(LOCAL)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    releases = re.findall(r"^## \[(\d.*)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert releases[:1] in ([], [version])
    images = {f"slipstream/{service}" for service in SERVICES}
    assert base["labels"][0]["pairs"]["app.kubernetes.io/version"] == version
    assert {i["name"]: i["newTag"] for i in base["images"]} == dict.fromkeys(images, version)
    assert {i["name"]: i["newTag"] for i in local["images"]} == dict.fromkeys(images, "local")
    assert {container(service)["image"] for service in SERVICES} == images
    for folder, listed in ((KUBERNETES / "base", base), (LOCAL, local)):
        named = {*listed["resources"], *(patch["path"] for patch in listed.get("patches", []))}
        assert {p.name for p in folder.glob("*.yaml")} - {"kustomization.yaml"} == {
            n for n in named if n.endswith(".yaml")
        }


@pytest.mark.parametrize("service", SERVICES)
def test_manifest_gives_a_slow_machine_five_minutes_to_start(service: str) -> None:
    """A restart of what is only slow makes all of it slower."""
    probe = container(service)["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 300
    assert probe["timeoutSeconds"] > 1
