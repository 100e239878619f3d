"""The metrics of a running stack, compared with what Prometheus' rules and Grafana's panels ask."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from slipstream.contracts.services import SERVICES
from tests.e2e.stack import Stack, wait_for

FOLDER: Final = Path(__file__).parents[2] / "deploy" / "observability"
# Labels that Prometheus puts on what it scrapes.
OF_TARGETS: Final = {"service", "instance"}
SELECTOR: Final = re.compile(r"\b(slipstream_\w+)(?:\{([^}]*)\})?")
MATCHER: Final = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
RECORD: Final = re.compile(r"\b\w+:\w+:\w+")


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def asked() -> Iterator[str]:
    """The expressions of the rules, then of the panels."""
    yield from (rule["expr"] for rule in rules())
    dashboard = (FOLDER / "grafana/dashboards/slipstream.json").read_text("utf-8")
    for panel in json.loads(dashboard)["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def metrics(stack: Stack) -> dict[str, list[Metric]]:
    """The families of all services, by the names of their samples and their own."""
    families: dict[str, list[Metric]] = {}
    for name in SERVICES:
        text = stack.clients[name].get("/metrics").raise_for_status().text
        for family in text_string_to_metric_families(text):
            suffixes = {
                "counter": ("_total",),
                "histogram": ("_bucket", "_count", "_sum"),
            }.get(family.type, ("",))
            for suffix in suffixes:
                families.setdefault(family.name + suffix, []).append(family)
    return families


def unanswered(stack: Stack) -> list[str]:
    """Metrics, labels and records that an expression asks for, and no service or rule has."""
    exposed = metrics(stack)
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    found: list[str] = []
    for expression in asked():
        found += [name for name in RECORD.findall(expression) if name not in recorded]
        for name, matchers in SELECTOR.findall(RECORD.sub("", expression)):
            if name not in exposed:
                found.append(name)
            samples = [s for family in exposed.get(name, ()) for s in family.samples]
            labels = [s.labels for s in samples if s.name == name]
            for label, equals, value in MATCHER.findall(matchers):
                values = {has[label] for has in labels if label in has}
                known = value in values if label == "le" and equals == "=" else values
                if labels and not known and label not in OF_TARGETS:
                    found.append(f"{name}{{{label}{equals}{value}}}")
    return found


def measure_lists(stack: Stack, user_id: str, item_id: str) -> None:
    """The objective for latency measures each way to ask for a visitor's list."""
    (answers,) = (
        rule["expr"]
        for rule in rules()
        if rule.get("record") == "service_objective:answers:rate5m"
        and rule["labels"] == {"objective": "latency"}
    )
    (routes,) = re.findall(r'route=~"([^"]+)"', answers)
    serving = stack.clients["serving"]

    def measured() -> float:
        name = "slipstream_http_request_seconds_count"
        return sum(
            sample.value
            for family in metrics(stack)[name]
            for sample in family.samples
            if sample.name == name and re.fullmatch(routes, sample.labels["route"])
        )

    for way, body in (
        (f"/v1/recommendations/{user_id}", None),
        ("/v1/recommendations", {"user_id": user_id}),
        ("/v1/sessions:recommend", {"events": [{"item_id": item_id}]}),
        (f"/v1/similar/{item_id}", None),
    ):
        before = measured()
        answer = serving.get(way) if body is None else serving.post(way, json=body)
        answer.raise_for_status()
        # Measured once it is sent, a moment after it arrives.
        wait_for(lambda before=before: measured() > before, f"{way} to be measured", 10)
