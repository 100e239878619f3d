"""Settings of monitoring that are checked at its start."""

import pytest
from pydantic import ValidationError

from services.monitoring.settings import MonitoringSection


def test_only_services_may_sleep() -> None:
    assert MonitoringSection(may_sleep="features, serving").may_sleep == "features, serving"
    with pytest.raises(ValidationError, match="no service 'servings': did you mean serving"):
        MonitoringSection(may_sleep="servings")
