"""The Prometheus files fit the services: targets, and a runbook page for each alert.

`tests/e2e/scraped.py` asks running services for the metrics.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipstream.contracts.services import SERVICES

ROOT = Path(__file__).parents[2]
RUNBOOK = ROOT / "docs" / "runbook"


def _load(name: str) -> Any:
    return yaml.safe_load((ROOT / "deploy" / "observability" / name).read_text("utf-8"))


PANELS = _load("grafana/dashboards/slipstream.json")["panels"]
ALERTS = [
    rule for group in _load("alerts.yml")["groups"] for rule in group["rules"] if "alert" in rule
]


def test_prometheus_scrapes_every_service_at_its_port() -> None:
    (job,) = _load("prometheus.yml")["scrape_configs"]
    targets = {config["labels"]["service"]: config["targets"] for config in job["static_configs"]}
    assert targets == {name: [f"{name}:{service.port}"] for name, service in SERVICES.items()}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_leads_to_its_page_in_the_runbook(alert: dict[str, Any]) -> None:
    name = alert["alert"]
    base = '{{ or $externalLabels.runbook "http://localhost:8005/runbook" }}'
    # An alert of monitoring leads to its rule's page.
    page = "{{ $labels.page }}" if name == "SlipstreamAlertOpen" else f"{name}.md"
    assert alert["annotations"]["runbook_url"] == f"{base}/{page}"
    page = (RUNBOOK / f"{name}.md").read_text("utf-8")
    assert page.startswith(f"# {name}\n")
    for part in ("## Meaning\n", "## First look\n", "## Action\n"):
        assert part in page
    assert f"| [{name}]({name}.md) |" in (RUNBOOK / "README.md").read_text("utf-8")


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_panel_of_grafana_asks_its_source(panel: dict[str, Any]) -> None:
    (source,) = _load("grafana/datasources/prometheus.yml")["datasources"]
    for target in panel["targets"]:
        assert target["datasource"] == {"type": source["type"], "uid": source["uid"]}


def test_grafana_finds_the_dashboard_where_compose_puts_it() -> None:
    (provider,) = _load("grafana/dashboards/slipstream.yml")["providers"]
    grafana = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"][
        "grafana"
    ]
    assert grafana["volumes"] == ["./deploy/observability/grafana:/etc/grafana/provisioning:ro"]
    assert provider["options"]["path"] == "/etc/grafana/provisioning/dashboards"


def test_the_index_of_the_runbook_lists_every_page() -> None:
    index = (RUNBOOK / "README.md").read_text("utf-8")
    pages = {page.name for page in RUNBOOK.glob("*.md")} - {"README.md"}
    assert set(re.findall(r"\]\(([\w-]+\.md)\)", index)) == pages
