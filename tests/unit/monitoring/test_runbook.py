"""Pages of the runbook, and their addresses."""

import pytest

from services.monitoring import runbook
from services.monitoring.settings import MonitoringSettings


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ("docs/runbook/service_down.md", "/runbook/service_down.md"),
        ("https://wiki.example/lag", "https://wiki.example/lag"),
        ("Call the shop; docs/runbook/keys.md.", "Call the shop; docs/runbook/keys.md."),
        ("", ""),
    ],
)
def test_a_page_has_an_address_and_other_texts_stay(said: str, address: str) -> None:
    assert runbook.address(said, runbook.PATH) == address


def test_links_lead_to_this_service_unless_the_settings_say_another_place() -> None:
    assert MonitoringSettings().runbook_address == "http://127.0.0.1:8005/runbook"
    elsewhere = {"runbook_url": "https://shop.example/runbook"}
    settings = MonitoringSettings(monitoring=elsewhere)  # type: ignore[arg-type]
    assert settings.runbook_address == "https://shop.example/runbook"
