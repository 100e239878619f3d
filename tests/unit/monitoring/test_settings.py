"""Settings of monitoring that are checked at its start."""

import pytest
from pydantic import SecretStr, ValidationError

from services.monitoring.settings import MonitoringSection


def test_only_services_may_sleep() -> None:
    assert MonitoringSection(may_sleep="features, serving").may_sleep == "features, serving"
    with pytest.raises(ValidationError, match="no service 'servings': did you mean serving"):
        MonitoringSection(may_sleep="servings")


def test_an_address_that_apprise_does_not_read_is_refused_without_its_secrets() -> None:
    with pytest.raises(ValidationError) as refused:
        MonitoringSection(notify_urls=SecretStr("json://127.0.0.1/x slak://T1/B2/s3cret"))
    (error,) = refused.value.errors()
    assert error["msg"] == (
        "Value error, address 2 has no scheme that apprise knows: did you mean slack?"
    )
