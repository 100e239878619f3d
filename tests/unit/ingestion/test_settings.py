"""Settings of ingestion."""

import pytest
from pydantic import ValidationError

from services.ingestion.settings import IngestionSettings
from slipstream.chassis.settings import wrong_settings


@pytest.mark.parametrize("name", ["SPOOL_DIR", "SPOOL_MAX_MB"])
def test_setting_of_the_former_spool_is_an_error_that_says_where_to_go(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPSTREAM_INGESTION__WRITE_KEYS", "shop:s3cret")
    IngestionSettings()
    monkeypatch.setenv(f"SLIPSTREAM_INGESTION__{name}", "1")
    with pytest.raises(ValidationError) as refused:
        IngestionSettings()
    assert wrong_settings(refused.value) == (
        f"settings: SLIPSTREAM_INGESTION__{name}: there is no spool any more. Empty its "
        "folder with the version before, then remove this variable: docs/upgrading.md"
    )
