"""Both ingresses read the privacy settings."""

import os
from collections.abc import Mapping

import pytest
from pydantic import SecretStr, ValidationError

from services.features.settings import FeaturesSettings
from services.ingestion.settings import IngestionSettings
from slipstream.ingress.settings import IngressSettings, PrivacySettings

SERVICES = pytest.mark.parametrize("service", [IngestionSettings, FeaturesSettings])
VARIABLES = {
    "SLIPSTREAM_PRIVACY__TRUNCATE_IP": "false",
    "SLIPSTREAM_PRIVACY__DROP_FIELDS": "phone, address.street",
    "SLIPSTREAM_PRIVACY__HASH_FIELDS": "email",
    "SLIPSTREAM_PRIVACY__HASH_KEY": "pepper",
}


def built(
    service: type[IngressSettings], environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> PrivacySettings:
    for variable in [name for name in os.environ if name.startswith("SLIPSTREAM_")]:
        monkeypatch.delenv(variable)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("SLIPSTREAM_INGESTION__WRITE_KEYS", "shop:s3cret")
    return service().privacy


@SERVICES
def test_both_services_read_the_same_variables(
    service: type[IngressSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert built(service, VARIABLES, monkeypatch) == PrivacySettings(
        truncate_ip=False,
        drop_fields="phone, address.street",
        hash_fields="email",
        hash_key=SecretStr("pepper"),
    )


@SERVICES
@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("SLIPSTREAM_PRIVACY__HASH_FIELDS", "email", "no key to hash"),
        ("SLIPSTREAM_PRIVACY__DROP_FIELDS", "a..b", "no name or dotted path"),
    ],
)
def test_settings_that_make_no_policy_stop_the_start(
    service: type[IngressSettings],
    variable: str,
    value: str,
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ValidationError, match=complaint):
        built(service, {variable: value}, monkeypatch)
