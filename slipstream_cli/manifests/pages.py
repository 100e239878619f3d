"""Paths and texts of the generated manifests."""

from pathlib import Path
from textwrap import indent
from typing import Final

from slipstream_cli.manifests.kafka_access import kafka_topics, kafka_users
from slipstream_cli.manifests.network_policies import network_policies

_COMPONENTS: Final = "deploy/kubernetes/components"
_ALERTS: Final = "deploy/observability/alerts.yml"


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
            "slipstream/contracts/topics.py", kafka_topics()
        ),
        f"{_COMPONENTS}/strimzi/users.yaml": _generated(
            "slipstream/contracts/topics.py", kafka_users()
        ),
        f"{_COMPONENTS}/monitoring-operator/rules.yaml": _generated(_ALERTS, _rules(alerts)),
    }


def _generated(source: str, text: str) -> str:
    return f"# Written by `slipstream docs` from {source}; change it there.\n{text}"


def _rules(alerts: str) -> str:
    """A PrometheusRule with the groups of Prometheus' own file, which begin at `groups:`."""
    groups = alerts[alerts.index("groups:\n") :]
    return (
        "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n"
        f"  name: slipstream\nspec:\n{indent(groups, '  ')}"
    )
