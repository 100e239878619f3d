"""The report on quality over HTTP: how many steps it may have."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi import Request

from services.monitoring.api import quality_report
from slipstream.chassis.errors import InvalidRequestError


@pytest.fixture
def reads() -> list[int]:
    return []


@pytest.fixture
def request_to(reads: list[int]) -> Request:
    def counts(since: int, _until: int) -> dict[Any, Any]:
        reads.append(since)
        return {}

    parts = SimpleNamespace(
        slates=SimpleNamespace(counts=counts),
        settings=SimpleNamespace(attribution_window_s=60),
        clock=lambda: 1_700_000_000_000,
    )
    app = SimpleNamespace(state=SimpleNamespace(parts=parts))
    return cast(Request, SimpleNamespace(app=app))


@pytest.mark.parametrize("hours", [181, 2160])
def test_more_steps_than_anyone_can_look_at_are_refused_before_counts_are_read(
    request_to: Request, reads: list[int], hours: int
) -> None:
    with pytest.raises(InvalidRequestError, match="step=hour, or for at most 180 hours") as refused:
        quality_report(request_to, hours=hours, step="5m")
    assert (refused.value.status, refused.value.code, reads) == (400, "too_many_steps", [])


@pytest.mark.parametrize(("hours", "step"), [(180, "5m"), (2160, "hour"), (2160, "day")])
def test_other_periods_are_answered(
    request_to: Request, reads: list[int], hours: int, step: Any
) -> None:
    assert quality_report(request_to, hours=hours, step=step).total.slates == 0
    assert len(reads) == 1
