"""Monitoring's alerts, by a real Alertmanager with the configuration of `deploy`, to a webhook."""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

import httpx
import pytest
import yaml

from services.monitoring.alert_rules import Alert
from services.monitoring.alertmanager import AlertmanagerClient
from slipstream.contracts.events import Severity
from slipstream.contracts.times import now_ms
from slipstream_cli.local.processes import Child, free_port

PROGRAM = shutil.which("alertmanager") or shutil.which("prometheus-alertmanager")
CONFIGURATION = Path(__file__).parents[2] / "deploy" / "observability" / "alertmanager.yml"

pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="no Alertmanager; Debian: apt install prometheus-alertmanager"
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

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", notified
    server.shutdown()
    server.server_close()


@pytest.fixture
def alertmanager(webhook: tuple[str, Queue[dict[str, Any]]], tmp_path: Path) -> Iterator[str]:
    """The address of an Alertmanager that tells the webhook, and waits less than in production."""
    configuration = yaml.safe_load(CONFIGURATION.read_text())
    configuration["receivers"][0]["webhook_configs"] = [{"url": webhook[0]}]
    configuration["route"]["group_interval"] = "1s"
    (tmp_path / "alertmanager.yml").write_text(yaml.safe_dump(configuration))
    port = free_port()
    command = [
        str(PROGRAM),
        f"--config.file={tmp_path / 'alertmanager.yml'}",
        f"--storage.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with (tmp_path / "log").open("wb") as output:
        child = Child("alertmanager", port, command, _is_ready, grace_s=20, output=output)
        try:
            child.start(60)
            yield f"http://127.0.0.1:{port}"
        finally:
            child.stop()


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/-/ready").status_code == 200
    except httpx.HTTPError:
        return False


def test_an_alert_reaches_a_webhook_when_it_opens_and_when_it_closes(
    webhook: tuple[str, Queue[dict[str, Any]]], alertmanager: str
) -> None:
    _, notified = webhook
    client = AlertmanagerClient(
        [alertmanager], "shop", "http://m/runbook", lasts_ms=60_000, timeout_s=10
    )
    now = now_ms()
    alert = Alert(
        "a-1", "service_down", Severity.CRITICAL, "serving is away", {"down": ["serving"]}, "none",
        now - 1_000, now,
    )  # fmt: skip
    client.post([alert], now)
    opened = notified.get(timeout=60)
    assert (opened["version"], opened["status"], opened["receiver"]) == ("4", "firing", "people")
    (told,) = opened["alerts"]
    assert told["annotations"]["summary"] == "serving is away"
    # The labels that the alert of Prometheus' rule has, too.
    assert opened["groupLabels"] == {"alertname": "SlipstreamAlertOpen", "rule": "service_down"}
    # Posted in each round, it stays one alert; then it is closed.
    client.post([alert], now_ms())
    listed = httpx.get(f"{alertmanager}/api/v2/alerts").json()
    assert [each["status"]["state"] for each in listed] == ["active"]
    client.post([replace(alert, closed_at=now_ms())], now_ms())
    assert resolved(notified)["alerts"][0]["labels"] == told["labels"]
    client.close()


def resolved(notified: Queue[dict[str, Any]]) -> dict[str, Any]:
    """The notification that the group's alerts are over."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            notification = notified.get(timeout=1)
        except Empty:
            continue
        if notification["status"] == "resolved":
            return notification
    raise AssertionError("no notice said that the alert is over")
