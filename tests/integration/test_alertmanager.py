"""An alert of monitoring on its way by a real Prometheus and Alertmanager to a webhook."""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import httpx
import pytest
import yaml

from slipstream_cli.local.processes import Child, free_port
from tests.unit.monitoring.test_notifications import served

ALERTMANAGER = shutil.which("alertmanager") or shutil.which("prometheus-alertmanager")
PROMETHEUS = shutil.which("prometheus")
FILES = Path(__file__).parents[2] / "deploy" / "observability"

pytestmark = pytest.mark.skipif(
    ALERTMANAGER is None or PROMETHEUS is None,
    reason="no Alertmanager; Debian: apt install prometheus prometheus-alertmanager",
)


@pytest.fixture
def webhook() -> Iterator[tuple[str, Queue[dict[str, Any]]]]:
    """The address of a webhook, and the notifications that it gets."""
    notified: Queue[dict[str, Any]] = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            notified.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with served(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        yield f"http://127.0.0.1:{port}/", notified


@pytest.fixture
def figures() -> Iterator[tuple[str, dict[str, int]]]:
    """The address of a monitoring's metrics, with an alert that is open while `open` is 1."""
    state = {"open": 1}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            labels = 'page="service_down.md",rule="service_down",severity="critical"'
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(f"slipstream_alerts_open{{{labels}}} {state['open']}\n".encode())

        def log_message(self, *_: Any) -> None:
            pass

    with served(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        yield f"127.0.0.1:{port}", state


@contextmanager
def running(name: str, port: int, folder: Path, *command: str) -> Iterator[None]:
    with (folder / f"{name}.log").open("wb") as output:
        child = Child(name, port, list(command), _is_ready, grace_s=20, output=output)
        try:
            child.start(60)
            yield
        finally:
            child.stop()


@pytest.fixture
def alertmanager(webhook: tuple[str, Queue[dict[str, Any]]], tmp_path: Path) -> Iterator[str]:
    """The address of an Alertmanager that tells the webhook, and waits less than in production."""
    configuration = yaml.safe_load((FILES / "alertmanager.yml").read_text())
    configuration["receivers"][0]["webhook_configs"] = [{"url": webhook[0]}]
    configuration["route"]["group_interval"] = "1s"
    file = tmp_path / "alertmanager.yml"
    file.write_text(yaml.safe_dump(configuration))
    port = free_port()
    command = [
        str(ALERTMANAGER),
        f"--config.file={file}",
        f"--storage.path={tmp_path / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with running("alertmanager", port, tmp_path, *command):
        yield f"127.0.0.1:{port}"


@pytest.fixture
def prometheus(
    figures: tuple[str, dict[str, int]], alertmanager: str, tmp_path: Path
) -> Iterator[None]:
    """A Prometheus with the shipped rules, which looks every second."""
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(FILES / "alerts.yml")],
        "scrape_configs": [
            {"job_name": "monitoring", "static_configs": [{"targets": [figures[0]]}]}
        ],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
    }
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump(configuration))
    port = free_port()
    command = [
        str(PROMETHEUS),
        f"--config.file={file}",
        f"--storage.tsdb.path={tmp_path / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with running("prometheus", port, tmp_path, *command):
        yield


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/-/ready").status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.usefixtures("prometheus")
def test_an_alert_reaches_a_webhook_when_it_opens_and_when_it_closes(
    webhook: tuple[str, Queue[dict[str, Any]]], figures: tuple[str, dict[str, int]]
) -> None:
    _, notified = webhook
    opened = of_monitoring(notified, "firing")
    assert (opened["version"], opened["receiver"]) == ("4", "people")
    (alert,) = opened["alerts"]
    assert alert["labels"]["rule"] == "service_down"
    assert alert["annotations"]["runbook_url"].endswith("/runbook/service_down.md")
    figures[1]["open"] = 0
    assert of_monitoring(notified, "resolved")["alerts"][0]["labels"] == alert["labels"]


def of_monitoring(notified: Queue[dict[str, Any]], status: str) -> dict[str, Any]:
    """The next notification of this status about monitoring's own alert."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            notification = notified.get(timeout=1)
        except Empty:
            continue
        name = notification["groupLabels"]["alertname"]
        if (name, notification["status"]) == ("SlipstreamAlertOpen", status):
            return notification
    raise AssertionError(f"no notice of an alert that is {status}")
