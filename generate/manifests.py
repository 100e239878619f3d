"""Kubernetes manifests from the code's tables.

NetworkPolicies allow the connections of the table of services, and nothing else. Strimzi gets a
KafkaTopic for each topic, and a KafkaUser for each service. Prometheus' rules become a
PrometheusRule.
"""

from collections.abc import Iterable
from pathlib import Path
from textwrap import indent
from typing import Any, Final

import yaml

from services.monitoring.console.flow import GROUPS as GROUPS_LOOKED_AT
from services.monitoring.console.passing_records import WATCHED
from slipstream.broker.topics import physical, topic_configuration
from slipstream.contracts.services import SERVICES, Service
from slipstream.contracts.topics import TOPICS, Topic

_COMPONENTS: Final = "deploy/kubernetes/components"
_ALERTS: Final = "deploy/observability/alerts.yml"
# Label of client pods, or of namespaces of clients: a shop's backend, an ingress controller.
_CLIENT: Final = {"slipstream/client": "true"}
# Servers that are reached over the network: the label `app.kubernetes.io/component` of their pods,
# and their port. The lake is a volume; components/s3-lake adds its own connection.
_PODS_OF_SERVERS: Final = {
    "kafka": ("broker", 9092),
    "redis": ("online-store", 6379),
    "database": ("database", 5432),
}
# Jobs that run next to the services, with the servers that they use.
_JOBS: Final = {"migrations": ("database",), "training-run": ()}
# As in the settings of the base.
_NAMESPACE: Final = "slipstream"
_REPLICAS: Final = 3
# Services that consume in a group of their own name.
_GROUPS: Final = ("features", "training", "monitoring")

Manifest = dict[str, Any]


def manifests(repository: Path) -> dict[str, str]:
    """Texts of the manifests, by path in the repository."""
    alerts = (repository / _ALERTS).read_text(encoding="utf-8")
    texts = {
        "network-policies/connections.yaml": ("slipstream/contracts/services.py", _policies()),
        "strimzi/topics.yaml": ("slipstream/contracts/topics.py", map(_topic, TOPICS)),
        "strimzi/users.yaml": ("slipstream/contracts/topics.py", map(_user, SERVICES)),
    }
    return {
        f"{_COMPONENTS}/{name}": manifest(source, documents)
        for name, (source, documents) in texts.items()
    } | {f"{_COMPONENTS}/monitoring-operator/rules.yaml": _prometheus_rule(alerts)}


def manifest(source: str, documents: Iterable[Manifest]) -> str:
    """Text of a file of documents that are generated from `source`."""
    text: str = yaml.safe_dump_all(documents, sort_keys=False, width=100)
    return f"# Written by `make docs` from {source}; change it there.\n{text}"


def _prometheus_rule(alerts: str) -> str:
    """A PrometheusRule with the groups of Prometheus' own file, as text: it keeps the comments."""
    groups = alerts[alerts.index("groups:\n") :]
    head = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "slipstream"},
    }
    return f"{manifest(_ALERTS, [head])}spec:\n{indent(groups, '  ')}"


def _policies() -> list[Manifest]:
    """A policy for each service, job and server, and for clients."""
    clients = [
        _to(_name(service.name), service.port) for service in SERVICES.values() if service.public
    ]
    return [
        *map(_of_service, SERVICES.values()),
        *(_policy(job, _name(job), [], list(map(_to_server, used))) for job, used in _JOBS.items()),
        *map(_of_server, _PODS_OF_SERVERS),
        _policy("clients", _CLIENT, [], clients),
    ]


def _of_service(service: Service) -> Manifest:
    callers = [name for name, caller in SERVICES.items() if service.name in caller.peers]
    sources = [_pods(_name(name)) for name in callers]
    if service.public:
        sources += [_pods(_CLIENT), {"namespaceSelector": {"matchLabels": _CLIENT}}]
    called = [
        _to(_name(name), peer.port) for name, peer in SERVICES.items() if name in service.peers
    ]
    servers = [_to_server(server) for server in service.servers if server in _PODS_OF_SERVERS]
    ingress = [{"from": sources, "ports": [{"port": service.port}]}] if sources else []
    return _policy(service.name, _name(service.name), ingress, called + servers)


def _of_server(server: str) -> Manifest:
    component, port = _PODS_OF_SERVERS[server]
    users = [name for name, service in SERVICES.items() if server in service.servers]
    users += [job for job, used in _JOBS.items() if server in used]
    clients = {"from": [_pods(_name(name)) for name in users], "ports": [{"port": port}]}
    # A server's pods reach one another at every port: replicas, controllers, sentinels.
    own = [_pods(_component(component))]
    return _policy(server, _component(component), [clients, {"from": own}], [{"to": own}])


def _name(value: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": value}


def _component(value: str) -> dict[str, str]:
    return {"app.kubernetes.io/component": value}


def _pods(labels: dict[str, str]) -> Manifest:
    return {"podSelector": {"matchLabels": labels}}


def _to(labels: dict[str, str], port: int) -> Manifest:
    return {"to": [_pods(labels)], "ports": [{"port": port}]}


def _to_server(server: str) -> Manifest:
    component, port = _PODS_OF_SERVERS[server]
    return _to(_component(component), port)


def _policy(
    name: str, pods: dict[str, str], ingress: list[Manifest], egress: list[Manifest]
) -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": {
            **_pods(pods),
            "policyTypes": ["Ingress", "Egress"],
            "ingress": ingress,
            "egress": egress,
        },
    }


def _topic(topic: Topic) -> Manifest:
    spec = {
        "partitions": topic.partitions,
        "replicas": _REPLICAS,
        "config": {key: str(value) for key, value in topic_configuration(topic, _REPLICAS).items()},
    }
    return _of_strimzi("KafkaTopic", physical(_NAMESPACE, topic), spec)


def _user(service: str) -> Manifest:
    rights = [_acl("topic", f"{_NAMESPACE}.", "prefix", "Describe", "DescribeConfigs")]
    for topic in TOPICS:
        readers = {*topic.consumers, *(["monitoring"] if topic.name in WATCHED else [])}
        operations = [
            operation
            for operation, services in (("Read", readers), ("Write", topic.producers))
            if service in services
        ]
        if operations:
            rights.append(_acl("topic", physical(_NAMESPACE, topic), "literal", *operations))
    if service in _GROUPS:
        rights.append(_acl("group", f"{_NAMESPACE}.{service}", "literal", "Read"))
    if service == "monitoring":
        rights += [
            _acl("group", f"{_NAMESPACE}.{group}", "literal", "Describe")
            for group in sorted({*GROUPS_LOOKED_AT.values()} - {service})
        ]
    spec = {
        "authentication": {"type": "scram-sha-512"},
        "authorization": {"type": "simple", "acls": rights},
    }
    return _of_strimzi("KafkaUser", f"slipstream-{service}", spec)


def _of_strimzi(kind: str, name: str, spec: Manifest) -> Manifest:
    return {
        "apiVersion": "kafka.strimzi.io/v1",
        "kind": kind,
        "metadata": {"name": name, "labels": {"strimzi.io/cluster": "kafka"}},
        "spec": spec,
    }


def _acl(kind: str, name: str, pattern: str, *operations: str) -> Manifest:
    resource = {"type": kind, "name": name, "patternType": pattern}
    return {"resource": resource, "operations": list(operations)}
