"""Kubernetes manifests that are generated from the code's tables.

NetworkPolicies allow the connections of the table of services, and nothing else. Strimzi gets a
KafkaTopic for each topic, and a KafkaUser for each service. Prometheus' rules become a
PrometheusRule.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from textwrap import indent
from typing import Final

from services.monitoring.console.flow import GROUPS as GROUPS_LOOKED_AT
from services.monitoring.console.passing_records import WATCHED
from slipstream.broker.topics import physical, topic_configuration
from slipstream.contracts.services import SERVICES, Service
from slipstream.contracts.topics import TOPICS, Topic

_COMPONENTS: Final = "deploy/kubernetes/components"
_ALERTS: Final = "deploy/observability/alerts.yml"
# Label of client pods, or of namespaces of clients: a shop's backend, an ingress controller.
CLIENT: Final = "slipstream/client"
# Servers that are reached over the network: the label `app.kubernetes.io/component` of their pods,
# and their port. The lake is a volume; components/s3-lake adds its own connection.
PODS_OF_SERVERS: Final = {
    "kafka": ("broker", 9092),
    "redis": ("online-store", 6379),
    "database": ("database", 5432),
}
# Jobs that run next to the services, with the servers that they use.
JOBS: Final = {"migrations": ("database",), "training-run": ()}
# As in the settings of the base.
NAMESPACE: Final = "slipstream"
REPLICAS: Final = 3
# Services that consume in a group of their own name.
GROUPS: Final = ("features", "training", "monitoring")


def manifest_pages(repository: Path) -> dict[str, str]:
    """Generate the manifests; return their texts by path in the repository.

    Raises `FileNotFoundError` where `repository` has no file of alerts.
    """
    alerts = (repository / _ALERTS).read_text(encoding="utf-8")
    return {
        f"{_COMPONENTS}/network-policies/connections.yaml": _generated(
            "slipstream/contracts/services.py", network_policies()
        ),
        f"{_COMPONENTS}/strimzi/topics.yaml": _generated(
            "slipstream/contracts/topics.py", "---\n".join(map(_topic, TOPICS))
        ),
        f"{_COMPONENTS}/strimzi/users.yaml": _generated(
            "slipstream/contracts/topics.py", "---\n".join(map(_user, SERVICES))
        ),
        f"{_COMPONENTS}/monitoring-operator/rules.yaml": _generated(
            _ALERTS, _prometheus_rule(alerts)
        ),
    }


def _generated(source: str, text: str) -> str:
    return f"# Written by `slipstream docs` from {source}; change it there.\n{text}"


def _prometheus_rule(alerts: str) -> str:
    """A PrometheusRule with the groups of Prometheus' own file, which begin at `groups:`."""
    groups = alerts[alerts.index("groups:\n") :]
    return (
        "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n"
        f"  name: slipstream\nspec:\n{indent(groups, '  ')}"
    )


def network_policies() -> str:
    """Generate a policy for each service, job and server, as YAML documents."""
    policies = (
        *map(_of_service, SERVICES.values()),
        *(_policy(job, _name(job), (), map(_to_server, used)) for job, used in JOBS.items()),
        *map(_of_server, PODS_OF_SERVERS),
        _of_clients(),
    )
    return "---\n".join(policies)


def callers(called: Service) -> tuple[str, ...]:
    """Names of the services that call this one over REST, in the table's order."""
    return tuple(name for name, service in SERVICES.items() if called.name in service.peers)


def _of_service(service: Service) -> str:
    called = (name for name in SERVICES if service.name in callers(SERVICES[name]))
    sources = [_name(name) for name in callers(service)]
    if service.public:
        sources += [f'{CLIENT}: "true"', f'namespace {CLIENT}: "true"']
    return _policy(
        service.name,
        _name(service.name),
        [_rule("from", sources, service.port)] if sources else (),
        [
            *(_rule("to", [_name(name)], SERVICES[name].port) for name in called),
            *(_to_server(server) for server in service.servers if server in PODS_OF_SERVERS),
        ],
    )


def _of_server(server: str) -> str:
    component, port = PODS_OF_SERVERS[server]
    users = [name for name, service in SERVICES.items() if server in service.servers]
    users += [job for job, used in JOBS.items() if server in used]
    own = _component(component)
    return _policy(
        server,
        own,
        # A server's pods reach one another at every port: replicas, controllers, sentinels.
        [_rule("from", map(_name, users), port), _rule("from", [own])],
        [_rule("to", [own])],
    )


def _of_clients() -> str:
    public = (service for service in SERVICES.values() if service.public)
    return _policy(
        "clients",
        f'{CLIENT}: "true"',
        (),
        (_rule("to", [_name(service.name)], service.port) for service in public),
    )


def _name(value: str) -> str:
    return f"app.kubernetes.io/name: {value}"


def _component(value: str) -> str:
    return f"app.kubernetes.io/component: {value}"


def _to_server(server: str) -> str:
    component, port = PODS_OF_SERVERS[server]
    return _rule("to", [_component(component)], port)


def _policy(name: str, pods: str, ingress: Iterable[str], egress: Iterable[str]) -> str:
    lines = [
        "apiVersion: networking.k8s.io/v1",
        "kind: NetworkPolicy",
        "metadata:",
        f"  name: {name}",
        "spec:",
        "  podSelector:",
        "    matchLabels:",
        f"      {pods}",
        "  policyTypes: [Ingress, Egress]",
        *_rules("ingress", ingress),
        *_rules("egress", egress),
    ]
    return "\n".join(lines) + "\n"


def _rules(direction: str, rules: Iterable[str]) -> Iterator[str]:
    listed = list(rules)
    yield f"  {direction}:" if listed else f"  {direction}: []"
    yield from listed


def _rule(side: str, peers: Iterable[str], port: int | None = None) -> str:
    """A rule of one direction: `peers` are labels of pods, or of namespaces after that word."""
    lines = [f"    - {side}:"]
    for label in peers:
        kind = "namespaceSelector" if label.startswith("namespace ") else "podSelector"
        lines += [
            f"        - {kind}:",
            "            matchLabels:",
            f"              {label.removeprefix('namespace ')}",
        ]
    if port is not None:
        lines += ["      ports:", f"        - port: {port}"]
    return "\n".join(lines)


def _topic(topic: Topic) -> str:
    configuration = topic_configuration(topic, REPLICAS)
    lines = [
        *_head("KafkaTopic", physical(NAMESPACE, topic)),
        f"  partitions: {topic.partitions}",
        f"  replicas: {REPLICAS}",
        "  config:",
        *(f'    {key}: "{value}"' for key, value in configuration.items()),
    ]
    return "\n".join(lines) + "\n"


def _user(service: str) -> str:
    lines = [
        *_head("KafkaUser", f"slipstream-{service}"),
        "  authentication:",
        "    type: scram-sha-512",
        "  authorization:",
        "    type: simple",
        "    acls:",
        *_acl("topic", f"{NAMESPACE}.", "prefix", "Describe, DescribeConfigs"),
    ]
    for topic in TOPICS:
        readers = {*topic.consumers, *(["monitoring"] if topic.name in WATCHED else [])}
        rights = [
            right
            for right, services in (("Read", readers), ("Write", topic.producers))
            if service in services
        ]
        if rights:
            lines += _acl("topic", physical(NAMESPACE, topic), "literal", ", ".join(rights))
    if service in GROUPS:
        lines += _acl("group", f"{NAMESPACE}.{service}", "literal", "Read")
    if service == "monitoring":
        for group in sorted({*GROUPS_LOOKED_AT.values()} - {service}):
            lines += _acl("group", f"{NAMESPACE}.{group}", "literal", "Describe")
    return "\n".join(lines) + "\n"


def _head(kind: str, name: str) -> tuple[str, ...]:
    return (
        "apiVersion: kafka.strimzi.io/v1",
        f"kind: {kind}",
        "metadata:",
        f"  name: {name}",
        "  labels:",
        "    strimzi.io/cluster: kafka",
        "spec:",
    )


def _acl(kind: str, name: str, pattern: str, operations: str) -> Iterator[str]:
    yield f"      - resource: {{type: {kind}, name: {name}, patternType: {pattern}}}"
    yield f"        operations: [{operations}]"
