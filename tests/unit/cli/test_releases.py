"""A canary's pods compared with the stable ones, by their metrics."""

from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import httpx
import pytest
from click.testing import CliRunner
from prometheus_client import generate_latest

from services.serving.metrics import ServingMetrics
from slipstream.chassis.metrics import Metrics
from slipstream_cli.__main__ import cli
from slipstream_cli.releases import (
    PATIENCE_S,
    Bounds,
    NoPodError,
    Side,
    faults,
    growth,
    parse,
    read_pods,
    watch,
)

BOUNDS = Bounds(requests=100, errors=0.01, fallbacks=0.05, p95_ms=50)
GOOD = Side(2, 1_000, 0.0, 0.1, 20.0)


def told(times_s: list[float], *, failed: int = 0, trending: int = 0) -> str:
    """What serving exposes after requests that took so long, of which the last ones failed."""
    metrics = Metrics("serving")
    answers = ServingMetrics(metrics.registry).answers
    for number, seconds in enumerate(times_s):
        status = "500" if number >= len(times_s) - failed else "200"
        metrics.http_seconds.labels("/v1/recommendations/{user_id}", "GET", status).observe(seconds)
        answers.labels("trending" if number < trending else "model").inc()
    for route in ("/health/ready", "/metrics", "/v2/health/ready"):
        metrics.http_seconds.labels(route, "GET", "503").observe(9.0)
    return generate_latest(metrics.registry).decode()


def test_parse_counts_clients_requests_alone() -> None:
    counts = parse(told([0.01] * 8 + [0.2] * 2, failed=1, trending=3))
    assert [counts[key] for key in ("requests", "errors", "answers", "fallbacks")] == [10, 1, 10, 3]
    assert [counts[bound] for bound in (0.005, 0.01, 0.1, 0.25, 10.0)] == [0, 8, 8, 10, 10]
    with pytest.raises(ValueError, match="no metric"):
        parse("another_total 1\n")


def test_growth_is_since_a_pods_first_reading_and_goes_on_through_restarts() -> None:
    def counts(requests: int) -> Counter[str | float]:
        return Counter({"requests": requests, "errors": requests // 10})

    side = growth(
        [{"a": counts(1_000)}, {}, {"a": counts(1_100), "b": counts(500)}, {"b": counts(50)}]
    )
    assert (side.pods, side.requests, side.errors) == (2, 150, 0.1)
    assert growth([{}]) == Side(0, 0, 0.0, 0.0, 0.0)


def test_p95_lies_within_its_bucket() -> None:
    before, after = parse(told([])), parse(told([0.015] * 90 + [0.2] * 10))
    assert growth([{"a": before}, {"a": after}]).p95_ms == pytest.approx(100 + 150 / 2)


@pytest.mark.parametrize(
    ("canary", "found"),
    [
        (GOOD, []),
        (Side(1, 500, 0.01, 0.15, 70.0), []),
        (Side(1, 99, 0.5, 0.1, 20.0), ["canary answered 99 requests, fewer than 100"]),
        (Side(1, 500, 0.1, 0.1, 20.0), ["errors are 10.0%, more than 1.0% above the 0.0%"]),
        (Side(1, 500, 0.0, 0.2, 20.0), ["fallbacks are 20.0%, more than 5.0% above the 10.0%"]),
        (Side(1, 500, 0.0, 0.1, 120.0), ["p95 is 120 ms, more than 50 ms above the 20 ms"]),
    ],
)
def test_a_canary_is_returned_beyond_the_bounds_alone(canary: Side, found: list[str]) -> None:
    reasons = faults(GOOD, canary, BOUNDS)
    assert len(reasons) == len(found)
    assert all(words in reason for words, reason in zip(found, reasons, strict=True))


def test_few_requests_of_stable_tell_nothing_either() -> None:
    assert faults(Side(2, 7, 0.0, 0.0, 1.0), GOOD, BOUNDS) == [
        "stable answered 7 requests, fewer than 100"
    ]


def test_watch_waits_for_pods_and_reads_until_the_time_is_over() -> None:
    pauses: list[float] = []
    total = iter(range(0, 1_000, 10))

    def canary() -> dict[str, Counter[str | float]]:
        return {"c": Counter({"requests": next(total)})} if len(pauses) >= 3 else {}

    stable, other = watch(lambda: {"s": Counter()}, canary, 12.0, pause=pauses.append)
    assert pauses == [1.0, 1.0, 1.0, 5.0, 5.0, 2.0]
    assert (stable.requests, other.requests) == (0, 30)
    with pytest.raises(NoPodError, match="canary"):
        watch(lambda: {"s": Counter()}, dict, 1.0, pause=pauses.append)
    assert pauses.count(1.0) == 3 + PATIENCE_S


@pytest.fixture
def pod_url() -> object:
    """A pod that answers one more request for each reading of its metrics."""

    class Pod(BaseHTTPRequestHandler):
        asked = 0

        def do_GET(self) -> None:
            Pod.asked += 200
            body = told([0.01] * Pod.asked).encode()
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Pod) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_read_pods_leaves_out_what_does_not_answer(pod_url: str) -> None:
    with httpx.Client() as client:
        assert [*read_pods(pod_url, client)] == ["127.0.0.1"]
        assert read_pods("http://127.0.0.1:9", client) == {}
        assert read_pods("http://no-such-host.invalid:80", client) == {}


def test_the_command_ends_with_0_or_1_and_shows_both_sides(pod_url: str) -> None:
    command = ["releases", "compare", "--stable", pod_url, "--canary", pod_url, "--seconds", "1"]
    good = CliRunner().invoke(cli, command)
    assert good.exit_code == 0, good.output
    assert "stable   1     400" in good.output
    assert "The canary may go on." in good.output
    few = CliRunner().invoke(cli, [*command, "--requests", "5000"])
    assert few.exit_code == 1
    assert "fewer than 5,000" in few.output
    bad = CliRunner().invoke(cli, [*command[:3], "serving-stable", *command[4:]])
    assert bad.exit_code == 2
    assert "'serving-stable' is not a URL like http://serving-canary:8004" in bad.output
