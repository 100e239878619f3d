"""The bound of what a crash of the embedded broker loses."""

from pathlib import Path
from typing import Any

import pytest

from slipstream_cli.local import readiness
from slipstream_cli.local.plan import make_plan
from slipstream_cli.local.readiness import RecordsAtRisk


class Services:
    """Ingestion and features, with the figures that a test gives them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.accepted: float | None = 1_000.0
        self.status: dict[str, Any] = {"lag": 23}
        patch.setattr(readiness, "metric", self.metric)
        patch.setattr(readiness, "get_json", lambda *_: (200, self.status))

    def metric(self, port: int, name: str) -> float:
        if self.accepted is None:
            raise ConnectionRefusedError
        return self.accepted


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Services:
    return Services(monkeypatch)


@pytest.fixture
def records(services: Services, tmp_path: Path) -> RecordsAtRisk:
    return RecordsAtRisk(make_plan(tmp_path, {}, any_ports=True))


def test_the_bound_is_what_was_not_read_and_what_was_accepted_since(
    services: Services, records: RecordsAtRisk
) -> None:
    records.sample()
    services.accepted = 1_007.0
    assert records.at_most() == 30
    assert records.at_most() is None  # the broker that was started since has no sample


def test_without_a_sample_of_this_ingestion_there_is_no_bound(
    services: Services, records: RecordsAtRisk
) -> None:
    assert records.at_most() is None
    for accepted in (999.0, None):  # it restarted; it gives no answer
        services.accepted = 1_000.0
        records.sample()
        services.accepted = accepted
        assert records.at_most() is None
