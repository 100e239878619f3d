"""What PodSecurity's level "restricted" refuses (kubernetes.io/docs/concepts/security)."""

from collections.abc import Iterator
from typing import Any

_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def faults(pod: dict[str, Any]) -> list[str]:
    """The reasons to refuse a pod by its specification; empty for one that is let in."""
    return [*_faults_of_pod(pod)]


def _faults_of_pod(pod: dict[str, Any]) -> Iterator[str]:
    yield from (name for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name))
    for volume in pod.get("volumes", ()):
        yield from (f"volume {kind}" for kind in set(volume) - {"name"} - _VOLUMES)
    shared = pod.get("securityContext", {})
    if shared.get("sysctls"):
        yield "sysctls"
    containers = [c for kind in ("initContainers", "containers") for c in pod.get(kind, ())]
    for container in containers:
        name = container["name"]
        own = container.get("securityContext", {})
        yield from (f"{name}: {fault}" for fault in context_faults(shared, own))
        if any("hostPort" in port for port in container.get("ports", ())):
            yield f"{name}: hostPort"


def context_faults(shared: dict[str, Any], own: dict[str, Any]) -> Iterator[str]:
    """Faults of a container's security context, which overrides that of its pod."""
    context = shared | own
    if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
        yield "may run as root"
    if context.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"}:
        yield "no seccomp profile"
    if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
        yield "may gain privileges"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", ()):
        yield "keeps capabilities"
    if set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
        yield "adds capabilities"
