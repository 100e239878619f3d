"""NetworkPolicies as a cluster applies them: which pods may connect to which."""

from dataclasses import dataclass, field
from typing import Any

Policy = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """A pod by its labels; those of its namespace, for a pod in another one than the policies."""

    labels: dict[str, str]
    elsewhere: dict[str, str] | None = field(default=None)


def may_connect(policies: list[Policy], source: Pod, target: Pod, port: int | str) -> bool:
    """Whether policies let `source` open a connection to `target`. No pod is in an `ipBlock`.

    `port` is a number, or the name by which a policy knows the target's port.
    """
    return _lets_through(policies, source, target, port, "Egress") and _lets_through(
        policies, target, source, port, "Ingress"
    )


def _lets_through(
    policies: list[Policy], own: Pod, other: Pod, port: int | str, direction: str
) -> bool:
    """Whether the policies for `own` allow the connection. A pod without any is open."""
    side = "to" if direction == "Egress" else "from"
    applied = [
        policy["spec"]
        for policy in policies
        if own.elsewhere is None
        and direction in policy["spec"]["policyTypes"]
        and _selects(policy["spec"]["podSelector"], own.labels)
    ]
    return not applied or any(
        _has_port(rule, port) and (side not in rule or any(_is_peer(p, other) for p in rule[side]))
        for spec in applied
        for rule in spec.get(direction.lower()) or ()
    )


def _has_port(rule: dict[str, Any], port: int | str) -> bool:
    return "ports" not in rule or any(
        entry["port"] == port and entry.get("protocol", "TCP") == "TCP" for entry in rule["ports"]
    )


def _is_peer(peer: dict[str, Any], pod: Pod) -> bool:
    if "ipBlock" in peer:
        return False
    if "namespaceSelector" in peer:
        if pod.elsewhere is None or not _selects(peer["namespaceSelector"], pod.elsewhere):
            return False
    elif pod.elsewhere is not None:
        return False
    return _selects(peer.get("podSelector", {}), pod.labels)


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    wanted = selector.get("matchLabels", {})
    for expression in selector.get("matchExpressions", ()):
        assert expression["operator"] == "DoesNotExist"
        if expression["key"] in labels:
            return False
    return all(labels.get(key) == value for key, value in wanted.items())
