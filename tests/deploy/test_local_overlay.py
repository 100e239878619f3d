"""The local overlay: servers as in docker-compose.yml, and a laptop's share."""

import re
import shutil

import pytest
import yaml

from tests.cluster.kubectl import quantity
from tests.deploy.declared import COMPOSE
from tests.deploy.manifests import LOCAL, documents, kustomization, render, rendered_text


def test_local_servers_are_configured_as_in_compose() -> None:
    for name in ("kafka", "redis", "postgres"):
        (workload,) = [d for d in documents(LOCAL / f"{name}.yaml") if d["kind"] == "StatefulSet"]
        (server,) = workload["spec"]["template"]["spec"]["containers"]
        entry = COMPOSE["services"][name]
        assert server["image"] == entry["image"]
        assert server.get("args") == entry.get("command")
        here = {v["name"]: v["value"] for v in server.get("env", []) if "value" in v}
        there = {k: str(v) for k, v in entry.get("environment", {}).items()}
        of_a_cluster = {
            "KAFKA_LOG_DIRS",
            "PGDATA",
            "POSTGRES_PASSWORD",
            "KAFKA_ADVERTISED_LISTENERS",
        }
        assert {k: v for k, v in here.items() if k not in of_a_cluster} == {
            k: v for k, v in there.items() if k not in of_a_cluster
        }


def test_local_kafka_is_told_of_by_a_name_that_other_namespaces_resolve() -> None:
    (server,) = [d for d in documents(LOCAL / "kafka.yaml") if d["kind"] == "StatefulSet"]
    (container_of_kafka,) = server["spec"]["template"]["spec"]["containers"]
    told = {v["name"]: v["value"] for v in container_of_kafka["env"]}["KAFKA_ADVERTISED_LISTENERS"]
    namespace = kustomization(LOCAL)["namespace"]
    assert told == f"PLAINTEXT://kafka.{namespace}.svc.cluster.local:9092"


@pytest.mark.skipif(
    shutil.which("kubectl") is None,
    reason="needs kubectl to render the overlay: kubernetes.io/docs/tasks/tools",
)
def test_local_overlay_asks_for_no_more_than_a_laptop_has() -> None:
    """1,500 m and 4 GiB, with a surge pod of the largest service that gets one."""
    workloads = [d for d in render(LOCAL) if d["kind"] in ("Deployment", "StatefulSet")]
    for resource, most in (("cpu", 1_500), ("memory", 4 * 2**30)):
        asked = {
            workload["metadata"]["name"]: workload["spec"]["replicas"]
            * sum(
                quantity(c["resources"]["requests"][resource])
                for c in workload["spec"]["template"]["spec"]["containers"]
            )
            for workload in workloads
        }
        surging = [
            workload["metadata"]["name"]
            for workload in workloads
            if workload["kind"] == "Deployment"
            and workload["spec"]["strategy"]["rollingUpdate"]["maxSurge"] != 0
        ]
        assert set(surging) >= {"ingestion", "serving", "monitoring"}
        assert sum(asked.values()) + max(asked[name] for name in surging) <= most


@pytest.mark.skipif(
    shutil.which("kubectl") is None,
    reason="needs kubectl to render the overlay: kubernetes.io/docs/tasks/tools",
)
def test_local_overlay_renders_with_every_reference_resolved() -> None:
    rendered = rendered_text(LOCAL)
    objects = list(yaml.safe_load_all(rendered))
    by_kind = {(o["kind"], o["metadata"]["name"]) for o in objects}
    referenced = {
        *(("ConfigMap", name) for name in re.findall(r"configMapRef:\n\s+name: (\S+)", rendered)),
        *(
            ("Secret", name)
            for name in re.findall(r"secretKeyRef:\n\s+key: \S+\n\s+name: (\S+)", rendered)
        ),
        *(("PersistentVolumeClaim", name) for name in re.findall(r"claimName: (\S+)", rendered)),
    }
    assert {kind for kind, _ in referenced} == {"ConfigMap", "Secret", "PersistentVolumeClaim"}
    assert referenced <= by_kind
