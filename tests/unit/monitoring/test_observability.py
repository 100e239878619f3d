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
from slipstream.chassis.metrics import Metrics
from slipstream.contracts.services import SERVICES

ROOT = Path(__file__).parents[3]
GAUGES = (ROOT / "services" / "monitoring" / "gauges.py").read_text("utf-8")


def _load(name: str) -> Any:
    return yaml.safe_load((ROOT / "deploy" / "observability" / name).read_text("utf-8"))


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
    registry = Metrics("any").registry
    FeaturesMetrics(registry)
    RedisMetrics(registry)
    exposed = generate_latest(registry).decode()
    for name in re.findall(r"slipstream_\w+", alert["expr"]):
        family = re.sub(r"_(bucket|count|sum)$", "", name)
        assert f"# TYPE {family} " in exposed or f'"{family}"' in GAUGES


def test_links_within_the_runbook_lead_to_its_sections() -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text("utf-8")
    headings = re.findall(r"^#+ (.+)$", runbook, re.MULTILINE)
    # As GitHub makes anchors: lower case, punctuation dropped, each space a hyphen.
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = set(re.findall(r"\]\(#([^)]+)\)", runbook))
    assert links
    assert links <= anchors
