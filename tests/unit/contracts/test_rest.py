"""Limits of bodies that services exchange."""

import pytest
from pydantic import ValidationError

from slipstream.contracts.rest import RunRequest


def test_a_run_s_reason_is_bounded() -> None:
    assert RunRequest(reason="x" * 1_000).reason
    with pytest.raises(ValidationError, match="reason"):
        RunRequest(reason="x" * 1_001)
