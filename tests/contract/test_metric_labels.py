"""Labels of requests: whatever methods and paths strangers send, series are few."""

import pytest

from slipstream.chassis.access.guard import Demands, routes_of
from slipstream.chassis.connections import RequestLog
from slipstream.chassis.metrics import Metrics
from slipstream.contracts.services import SERVICES
from slipstream_cli.commands.openapi import app_of

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "PROPFIND", "BIND", "LOCK")
REFUSED, ROUTED = (401, 403, 404, 413, 429), (200, 405, 422)


@pytest.mark.parametrize("service", SERVICES)
def test_methods_and_refusals_add_few_series(service: str) -> None:
    routes, measured = list(routes_of(app_of(service))), Metrics("probe")
    log = RequestLog(measured, Demands(routes))
    for route in routes:
        for method in METHODS:
            scope = {"type": "http", "path": route.path, "method": method, "headers": []}
            for status in REFUSED:
                log.ended(scope, status, 0.001)
            for status in ROUTED:
                log.ended({**scope, "route": route}, status, 0.001)
    labels = {
        (sample.labels["route"], sample.labels["method"], sample.labels["status"])
        for metric in measured.http_seconds.collect()
        for sample in metric.samples
    }
    assert {label for label in labels if label[0] == "unmatched"} == {
        ("unmatched", "other", str(status)) for status in (*REFUSED, *ROUTED)
    }
    methods: dict[str, set[str]] = {}
    for route in routes:
        methods.setdefault(route.path, set()).update(route.methods or ())
    assert all(method in methods[path] for path, method, _ in labels if path != "unmatched")
