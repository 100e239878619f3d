"""Both ingresses read the privacy settings, also under their former names."""

import os
from collections.abc import Mapping

import pytest
from pydantic import SecretStr, ValidationError

from services.features.settings import FeaturesSettings
from services.ingestion.settings import IngestionSettings
from slipstream.ingress.settings import FORMER_VARIABLES, IngressSettings, PrivacySettings

SERVICES = pytest.mark.parametrize("service", [IngestionSettings, FeaturesSettings])
PRESENT = {
    "SLIPSTREAM_PRIVACY__TRUNCATE_IP": "false",
    "SLIPSTREAM_PRIVACY__DROP_FIELDS": "phone, address.street",
    "SLIPSTREAM_PRIVACY__HASH_FIELDS": "email",
    "SLIPSTREAM_PRIVACY__HASH_KEY": "pepper",
}
FORMER = {former: PRESENT[present] for former, present in FORMER_VARIABLES.items()}


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
@pytest.mark.parametrize("environment", [PRESENT, FORMER])
def test_present_and_former_variables_make_the_same_settings(
    service: type[IngressSettings],
    environment: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert built(service, environment, monkeypatch) == PrivacySettings(
        truncate_ip=False,
        drop_fields="phone, address.street",
        hash_fields="email",
        hash_key=SecretStr("pepper"),
    )


@SERVICES
def test_a_former_variable_yields_to_the_present_one_unless_that_is_empty(
    service: type[IngressSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    privacy = built(
        service,
        {
            "SLIPSTREAM_INGESTION__PII_DROP": "old",
            "SLIPSTREAM_PRIVACY__DROP_FIELDS": "new",
            "SLIPSTREAM_INGESTION__PII_KEY": "old",
            "SLIPSTREAM_PRIVACY__HASH_KEY": "",
        },
        monkeypatch,
    )
    assert (privacy.drop_fields, privacy.hash_key.get_secret_value()) == ("new", "old")


@SERVICES
@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("SLIPSTREAM_PRIVACY__HASH_FIELDS", "email", "no key to hash"),
        ("SLIPSTREAM_INGESTION__PII_HASH", "email", "no key to hash"),
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
