"""NetworkPolicies let every connection of the table of services through, and refuse the rest."""

from itertools import product
from typing import Any

import pytest

from slipstream.contracts.services import SERVICES
from tests.manifests.installations import combination, of_kind, pod_templates
from tests.manifests.network import Pod, may_connect

PORTS = {name: service.port for name, service in SERVICES.items()}
SERVERS = {"kafka": 9092, "redis": 6379, "postgres": 5432}
# By the names of settings, which the table uses.
SETTINGS = {"kafka": "kafka", "redis": "redis", "postgres": "database"}
CLIENT = Pod({"slipstream/client": "true"})
STRANGER = Pod({"app.kubernetes.io/name": "stranger"})
CLIENT_ELSEWHERE = Pod({}, elsewhere={"slipstream/client": "true"})
STRANGER_ELSEWHERE = Pod({}, elsewhere={"kubernetes.io/metadata.name": "default"})
PROMETHEUS = Pod(
    {"app.kubernetes.io/name": "prometheus"},
    elsewhere={"kubernetes.io/metadata.name": "monitoring"},
)
KEDA = Pod({"app": "keda-operator"}, elsewhere={"kubernetes.io/metadata.name": "keda"})
CNPG = Pod({}, elsewhere={"kubernetes.io/metadata.name": "cnpg-system"})


def _cluster(*components: str, base: str = "overlays/local") -> tuple[dict[str, Pod], list[Any]]:
    """Pods by name, and policies, of the local overlay with network-policies and others."""
    objects = combination("network-policies", *components, base=base)
    pods = {
        name.partition("/")[2]: Pod(template["metadata"]["labels"])
        for name, template in pod_templates(objects).items()
    }
    return pods, list(of_kind(objects, "NetworkPolicy").values())


def _expected(source: str, target: str) -> bool:
    """Whether the table of services has this connection, at the target's port."""
    if source == target:
        return source in SERVERS  # pods of a server reach one another
    if source == "migrations":
        return target == "postgres"
    if source not in SERVICES:
        return False
    service = SERVICES[source]
    return target in service.peers or SETTINGS.get(target) in service.servers


def test_policies_allow_exactly_the_connections_of_the_table() -> None:
    pods, policies = _cluster()
    assert set(pods) == {*SERVICES, *SERVERS, "migrations"}
    ports = PORTS | SERVERS
    allowed = {
        (source, target)
        for source, target in product(pods, ports)
        if may_connect(policies, pods[source], pods[target], ports[target])
    }
    assert allowed == {
        (source, target) for source, target in product(pods, ports) if _expected(source, target)
    }
    assert len(allowed) == 24


@pytest.mark.parametrize("client", [CLIENT, CLIENT_ELSEWHERE])
def test_policies_let_clients_reach_public_services_alone(client: Pod) -> None:
    pods, policies = _cluster()
    reached = {
        name
        for name, port in (PORTS | SERVERS).items()
        if may_connect(policies, client, pods[name], port)
    }
    assert reached == {name for name, service in SERVICES.items() if service.public}


def test_policies_shut_strangers_out_and_pods_in() -> None:
    pods, policies = _cluster()
    for name, port in (PORTS | SERVERS).items():
        for stranger in (STRANGER, STRANGER_ELSEWHERE, PROMETHEUS, KEDA):
            assert not may_connect(policies, stranger, pods[name], port)
    for pod in (*pods.values(), CLIENT, STRANGER):
        assert not may_connect(policies, pod, STRANGER_ELSEWHERE, 443)
        assert not may_connect(policies, pod, STRANGER, 8080)
        dns = Pod({"k8s-app": "kube-dns"}, elsewhere={"kubernetes.io/metadata.name": "kube-system"})
        assert may_connect(policies, pod, dns, 53)


def test_components_add_their_own_connections() -> None:
    pods, policies = _cluster("keda", "monitoring-operator", "s3-lake")
    assert may_connect(policies, KEDA, pods["kafka"], 9092)
    assert not may_connect(policies, KEDA, pods["redis"], 6379)
    for service in SERVICES:
        assert may_connect(policies, PROMETHEUS, pods[service], "http")
        reaches_buckets = may_connect(policies, pods[service], STRANGER_ELSEWHERE, 443)
        assert reaches_buckets == ("lake" in SERVICES[service].servers)
    assert not may_connect(policies, PROMETHEUS, pods["kafka"], "http")


def test_the_interceptor_reaches_the_pods_of_serving_and_clients_reach_it() -> None:
    pods, policies = _cluster("serving-to-zero")
    reached = {
        name for name, port in PORTS.items() if may_connect(policies, KEDA, pods[name], port)
    }
    assert reached == {"serving"}
    assert may_connect(policies, CLIENT, KEDA, 8080)
    assert not may_connect(policies, pods["monitoring"], KEDA, 8080)


def test_pods_of_operators_are_reached_by_the_services_that_use_them() -> None:
    components = ("strimzi", "redis-replicas", "cloudnative-pg")
    pods, policies = _cluster(*components, base="base")
    objects = combination("network-policies", *components)
    (kafka,) = of_kind(objects, "Kafka").values()
    (postgres,) = of_kind(objects, "Cluster").values()
    inherited = postgres["spec"]["inheritedMetadata"]["labels"]
    template = kafka["spec"]["kafka"]["template"]["pod"]["metadata"]["labels"]
    broker = Pod({"strimzi.io/cluster": "kafka", **template})
    database = Pod({"cnpg.io/cluster": "postgres", **inherited})
    entity_operator = Pod({"strimzi.io/cluster": "kafka"})
    api_server = Pod({}, elsewhere={})
    for name, service in SERVICES.items():
        for target, port, server in (
            (broker, 9092, "kafka"),
            (database, 5432, "database"),
            (pods["redis"], 6379, "redis"),
            (pods["redis"], 26379, "redis"),
        ):
            assert may_connect(policies, pods[name], target, port) == (server in service.servers)
    assert may_connect(policies, CNPG, database, 8000)
    for pod in (database, entity_operator):
        assert may_connect(policies, pod, api_server, 443)
    assert not may_connect(policies, pods["features"], api_server, 443)


def test_nodes_of_a_redis_cluster_and_the_job_that_joins_them_reach_one_another() -> None:
    pods, policies = _cluster("redis-cluster", base="base")
    for port in (6379, 16379):
        assert may_connect(policies, pods["redis"], pods["redis"], port)
    assert may_connect(policies, pods["redis-join"], pods["redis"], 6379)
    for name, service in SERVICES.items():
        assert may_connect(policies, pods[name], pods["redis"], 6379) == (
            "redis" in service.servers
        )
        assert not may_connect(policies, pods[name], pods["redis"], 16379)
