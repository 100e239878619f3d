"""Alerts of Prometheus, evaluated by Prometheus' own tool over samples."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "deploy" / "observability"

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="no promtool; Debian: apt install promtool; else it comes with Prometheus",
)


def promtool(*arguments: str) -> None:
    done = subprocess.run(
        ["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.servers("real")  # it takes ten seconds
def test_each_alert_fires_when_it_should_and_not_before() -> None:
    promtool("test", "rules", "alerts.test.yml")
    cases = (FOLDER / "alerts.test.yml").read_text("utf-8")
    rules = yaml.safe_load((FOLDER / "alerts.yml").read_text("utf-8"))
    groups = [group["rules"] for group in rules["groups"]]
    names = {rule["alert"] for group in groups for rule in group if "alert" in rule}
    assert set(re.findall(r'alertname[:=] ?"?(\w+)', cases)) == names


def test_prometheus_takes_its_configuration() -> None:
    promtool("check", "config", "prometheus.yml")


def test_prometheus_understands_what_grafana_asks(tmp_path: Path) -> None:
    dashboard = json.loads((FOLDER / "grafana/dashboards/slipstream.json").read_text("utf-8"))
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    rules = [
        # Grafana puts a period in place of its variable.
        {"record": f"panel:{place}", "expr": expression.replace("$__rate_interval", "1m")}
        for place, expression in enumerate(asked)
    ]
    (tmp_path / "asked.yml").write_text(
        yaml.safe_dump({"groups": [{"name": "grafana", "rules": rules}]})
    )
    promtool("check", "rules", str(tmp_path / "asked.yml"))
