"""Ingestion's settings."""

from pydantic import Field, SecretStr, field_validator

from services.ingestion.write_keys import WriteKeys
from slipstream.chassis.settings import Section, ServiceSettings


class IngestionSection(Section):
    """Who may send, and how much at once. The limits are those of Segment's HTTP tracking API."""

    write_keys: SecretStr = Field(
        SecretStr(""),
        validate_default=True,
        description="name:key, several separated by commas; required. The name becomes the `source` of its events",
    )
    max_event_bytes: int = Field(32_768, ge=256, description="a larger event is rejected")
    max_body_bytes: int = Field(512_000, ge=1_024, description="a larger request body is answered with 413")
    max_batch_events: int = Field(2_500, ge=1, description="more events, items or users in one body are answered with 413")
    linger_ms: int = Field(1, ge=0, le=1_000, description="how long the Kafka client waits for more records of a partition")

    @field_validator("write_keys")
    @classmethod
    def _well_formed(cls, keys: SecretStr) -> SecretStr:
        WriteKeys(keys.get_secret_value())
        return keys


class IngestionSettings(ServiceSettings):
    """All that ingestion reads from its environment."""

    # Not an instance, which would have to have a key: validated like what comes from the environment.
    ingestion: IngestionSection = Field(default_factory=dict)  # type: ignore[assignment]
