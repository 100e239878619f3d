"""A client for each service, over kubectl's port-forward on 127.0.0.1.

A forward ends with its pod. The next request opens another one.
"""

import re
import subprocess
import threading
from contextlib import suppress
from typing import Any

import httpx

from slipstream.contracts.services import SERVICES
from tests.cluster.kubectl import NAMESPACE, Kubectl

# The credentials of the local overlay.
WRITE_KEY, TOKEN = "dev", "dev-token-of-this-machine-and-no-other"
OPEN_LIMIT_S = 15.0


class Forwards:
    """Requests to the services of the overlay. Failed connections are `httpx.TransportError`, after
    which the next request finds another pod.
    """

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._clients: dict[str, httpx.Client] = {}

    def get(self, service: str, path: str, **parameters: Any) -> Any:
        """The JSON body of a GET that succeeds, through another forward where the first is dead."""
        try:
            return self._request("GET", service, path, params=parameters)
        except httpx.TransportError:
            return self._request("GET", service, path, params=parameters)

    def post(self, service: str, path: str, body: Any) -> Any:
        """The JSON body of a POST that succeeds; to ingestion, with the write key."""
        self.get(service, "/health/live")  # a dead forward would take the body with it
        return self._request("POST", service, path, json=body)

    def url(self, service: str) -> str:
        """The address on this machine under which a service is reached as long as its pod lives."""
        return str(self._client(service).base_url)

    def close(self) -> None:
        for service in list(self._processes):
            self._close(service)

    def _request(self, method: str, service: str, path: str, **given: Any) -> Any:
        try:
            answer = self._client(service).request(method, path, **given)
        except httpx.TransportError:
            self._close(service)
            raise
        return answer.raise_for_status().json()

    def _client(self, service: str) -> httpx.Client:
        process = self._processes.get(service)
        if process is None or process.poll() is not None:
            self._close(service)
            self._open(service)
        return self._clients[service]

    def _open(self, service: str) -> None:
        command = [*self._kubectl.base, "--namespace", NAMESPACE, "port-forward"]
        command += [f"service/{service}", f":{SERVICES[service].port}"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        watchdog = threading.Timer(OPEN_LIMIT_S, process.kill)
        watchdog.start()
        assert process.stdout is not None
        told = process.stdout.readline()
        watchdog.cancel()
        found = re.search(r"127\.0\.0\.1:(\d+)", told)
        if found is None:
            process.kill()
            process.wait()
            raise httpx.ConnectError(f"port-forward to {service}: {told.strip()}")
        # Whatever else it says must not fill the pipe.
        threading.Thread(target=process.stdout.read, daemon=True).start()
        auth = httpx.BasicAuth(WRITE_KEY, "") if service == "ingestion" else None
        headers = {} if service == "ingestion" else {"Authorization": f"Bearer {TOKEN}"}
        self._processes[service] = process
        self._clients[service] = httpx.Client(
            base_url=f"http://127.0.0.1:{found[1]}",
            auth=auth,
            headers=headers,
            timeout=20,
            trust_env=False,
        )

    def _close(self, service: str) -> None:
        if client := self._clients.pop(service, None):
            client.close()
        if process := self._processes.pop(service, None):
            process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
