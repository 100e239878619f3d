"""The local overlay: servers as in docker-compose.yml."""

from tests.deploy.declared import COMPOSE
from tests.deploy.manifests import LOCAL, documents, kustomization


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
