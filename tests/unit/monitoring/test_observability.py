"""The Prometheus files fit the services: targets, metric names, and a runbook section for each
alert.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest

from services.features.metrics import FeaturesMetrics, RedisMetrics
from services.serving.metrics import ServingMetrics
from services.training.metrics import TrainingMetrics
from slipstream.chassis.metrics import Metrics
from slipstream.contracts.services import SERVICES

ROOT = Path(__file__).parents[3]
# The code of those that are only exposed by a service that runs.
BY_COLLECTORS = "".join(
    (ROOT / "services" / name).read_text("utf-8")
    for name in ("monitoring/checkup.py", "ingestion/publisher.py")
)


def _load(name: str) -> Any:
    return yaml.safe_load((ROOT / "deploy" / "observability" / name).read_text("utf-8"))


PANELS = _load("grafana/dashboards/slipstream.json")["panels"]
ALERTS = [rule for group in _load("alerts.yml")["groups"] for rule in group["rules"]]


def test_prometheus_scrapes_every_service_at_its_port() -> None:
    (job,) = _load("prometheus.yml")["scrape_configs"]
    targets = {config["labels"]["service"]: config["targets"] for config in job["static_configs"]}
    assert targets == {name: [f"{name}:{service.port}"] for name, service in SERVICES.items()}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_has_a_section_in_the_runbook(alert: dict[str, Any]) -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text("utf-8")
    section = runbook.partition(f"## {alert['alert']}\n")[2].partition("\n## ")[0]
    for part in ("**Means**", "**First look**", "**Action**"):
        assert part in section


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_asks_for_metrics_that_exist(alert: dict[str, Any]) -> None:
    assert missing(alert["expr"]) == []


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_panel_of_grafana_asks_its_source_for_metrics_that_exist(
    panel: dict[str, Any],
) -> None:
    (source,) = _load("grafana/datasources/prometheus.yml")["datasources"]
    for target in panel["targets"]:
        assert target["datasource"] == {"type": source["type"], "uid": source["uid"]}
        assert missing(target["expr"]) == []
        assert "slipstream_" in target["expr"]


def test_grafana_finds_the_dashboard_where_compose_puts_it() -> None:
    (provider,) = _load("grafana/dashboards/slipstream.yml")["providers"]
    grafana = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"][
        "grafana"
    ]
    assert grafana["volumes"] == ["./deploy/observability/grafana:/etc/grafana/provisioning:ro"]
    assert provider["options"]["path"] == "/etc/grafana/provisioning/dashboards"


def missing(expression: str) -> list[str]:
    """The metrics of an expression that no service exposes."""
    registry = Metrics("any").registry
    for metrics in (FeaturesMetrics, RedisMetrics, ServingMetrics, TrainingMetrics):
        metrics(registry)
    exposed = generate_latest(registry).decode()
    families = [
        re.sub(r"_(bucket|count|sum)$", "", name)
        for name in re.findall(r"slipstream_\w+", expression)
    ]
    return [
        family
        for family in families
        if f"# TYPE {family} " not in exposed and f'"{family}"' not in BY_COLLECTORS
    ]


def test_links_within_the_runbook_lead_to_its_sections() -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text("utf-8")
    headings = re.findall(r"^#+ (.+)$", runbook, re.MULTILINE)
    # As GitHub makes anchors: lower case, punctuation dropped, each space a hyphen.
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = set(re.findall(r"\]\(#([^)]+)\)", runbook))
    assert links
    assert links <= anchors
