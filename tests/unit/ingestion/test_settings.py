"""Settings of ingestion."""

import pytest
from pydantic import ValidationError

from services.ingestion.settings import IngestionSettings
from slipstream.chassis.settings import wrong_settings


@pytest.mark.parametrize("name", ["SPOOL_DIR", "PII_DROP", "PII_HASH", "PII_KEY", "TRUNCATE_IP"])
def test_a_setting_that_there_is_not_is_an_error(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPSTREAM_INGESTION__WRITE_KEYS", "shop:s3cret")
    IngestionSettings()
    monkeypatch.setenv(f"SLIPSTREAM_INGESTION__{name}", "1")
    with pytest.raises(ValidationError) as refused:
        IngestionSettings()
    assert name in wrong_settings(refused.value)
