"""Ingestion reads the privacy settings."""

import os
from collections.abc import Mapping

import pytest
from pydantic import SecretStr, ValidationError

from services.ingestion.settings import IngestionSettings, PrivacySettings

VARIABLES = {
    "SLIPSTREAM_PRIVACY__TRUNCATE_IP": "false",
    "SLIPSTREAM_PRIVACY__DROP_FIELDS": "phone, address.street",
    "SLIPSTREAM_PRIVACY__HASH_FIELDS": "email",
    "SLIPSTREAM_PRIVACY__HASH_KEY": "pepper",
}


def built(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> PrivacySettings:
    for variable in [name for name in os.environ if name.startswith("SLIPSTREAM_")]:
        monkeypatch.delenv(variable)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("SLIPSTREAM_INGESTION__WRITE_KEYS", "shop:s3cret")
    return IngestionSettings().privacy


def test_a_policy_is_read_from_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    assert built(VARIABLES, monkeypatch) == PrivacySettings(
        truncate_ip=False,
        drop_fields="phone, address.street",
        hash_fields="email",
        hash_key=SecretStr("pepper"),
    )


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("SLIPSTREAM_PRIVACY__HASH_FIELDS", "email", "no key to hash"),
        ("SLIPSTREAM_PRIVACY__DROP_FIELDS", "a..b", "no name or dotted path"),
    ],
)
def test_settings_that_make_no_policy_stop_the_start(
    variable: str,
    value: str,
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ValidationError, match=complaint):
        built({variable: value}, monkeypatch)
