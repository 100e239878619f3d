"""A Kubernetes API server for CronJobs, Jobs and Pods of one namespace, on real HTTP."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

JOBS = "/apis/batch/v1/namespaces/shop/jobs"
CRON_JOBS = "/apis/batch/v1/namespaces/shop/cronjobs"
PODS = "/api/v1/namespaces/shop/pods"
COMPONENT = Path(__file__).parents[4] / "deploy" / "kubernetes" / "components" / "training-runs"


def template() -> dict[str, Any]:
    """The CronJob of the manifests."""
    found: dict[str, Any] = yaml.safe_load((COMPONENT / "training-run.yaml").read_text())
    return found


class ApiServer:
    """Objects by path, and every request. `refuse` makes every answer an error of its status."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {f"{CRON_JOBS}/training-run": template()}
        self.pods: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str, dict[str, list[str]], str]] = []
        self.refuse = 0
        self.url = ""

    def answer(self, method: str, target: str, token: str, body: bytes) -> tuple[int, Any]:
        parts = urlsplit(target)
        self.requests.append((method, parts.path, parse_qs(parts.query), token))
        if self.refuse:
            return self.refuse, {"kind": "Status", "message": "it is not allowed"}
        if method == "POST":
            job = json.loads(body)
            path = f"{parts.path}/{job['metadata']['name']}"
            if path in self.objects:
                return 409, {"kind": "Status", "message": "it exists"}
            self.objects[path] = {**job, "status": {}}
            return 201, job
        if parts.path == PODS:
            return 200, {"kind": "PodList", "items": self.pods}
        if parts.path not in self.objects:
            return 404, {"kind": "Status", "message": "it is not there"}
        return 200, self.objects.pop(parts.path) if method == "DELETE" else self.objects[parts.path]


@contextmanager
def api_server() -> Iterator[ApiServer]:
    """A server with the CronJob of the manifests and nothing else."""
    server = ApiServer()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            status, answer = server.answer(self.command, self.path, token, body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = handle_any

        def log_message(self, *_: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        server.url = f"http://127.0.0.1:{http.server_port}"
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
