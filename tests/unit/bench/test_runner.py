"""Runs of a benchmark by name."""

import threading
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from bench import freshness, runner


@pytest.mark.parametrize("name", ["freshness", "serving"])
def test_benchmarks_send_the_api_token_of_the_stack_that_they_measure(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers.get("Authorization", ""))
            self.send_error(500)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(freshness, "Floor", lambda *_: nullcontext())
        description = {
            "ingestion": url,
            "serving": url,
            "write_key": "k",
            "kafka": "127.0.0.1:1",
            "namespace": "n",
        }
        with pytest.raises((ValueError, RuntimeError)):  # no answer is what it should be
            runner.measure(name, runner.target_of(description, token="s3cret"))
        server.shutdown()
    assert set(asked) == {"Bearer s3cret"}
