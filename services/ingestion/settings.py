"""Ingestion's settings."""

from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from services.ingestion.privacy import Privacy
from services.ingestion.write_keys import WriteKeys
from slipstream.chassis.settings import Section, ServiceSettings
from slipstream.stores.admission_store import Rate


class IngestionSection(Section):
    """Who may send, and how much at once. The limits are those of Segment's HTTP tracking API."""

    write_keys: SecretStr = Field(
        SecretStr(""),
        validate_default=True,
        description="name:key, several separated by commas; required. The name becomes the `source` of its events",
    )
    max_event_bytes: int = Field(32_768, ge=256, description="a larger event is rejected")
    max_body_bytes: int = Field(
        512_000, ge=1_024, description="a larger request body is answered with 413"
    )
    max_batch_events: int = Field(
        2_500, ge=1, description="more events, items or users in one body are answered with 413"
    )
    linger_ms: int = Field(
        0,
        ge=0,
        le=1_000,
        description="how long the Kafka client waits for more records of a partition",
    )

    dedupe_window_hours: float = Field(
        24.0,
        ge=0,
        description="how long a `messageId` is remembered (in Redis), so that a repeat is a duplicate; 0: not at all",
    )
    key_events_per_s: float = Field(
        0.0, ge=0, description="events a second that a write key may send, else 429; 0: no limit"
    )
    key_burst: int = Field(
        10_000,
        ge=1,
        description="how many of them at once; a larger batch is taken when nothing came lately",
    )
    # Off: what is refused is lost, and no rate fits both a browser and a shop's server, which may
    # send a user's day at once.
    visitor_events_per_s: float = Field(
        0.0,
        ge=0,
        description="events a second of one visitor, more are rejected; 0: no limit; 50 is far above what a person does",
    )
    visitor_burst: int = Field(
        2_500,
        ge=1,
        description="how many of them at once; a batch of a server may be all of one visitor's",
    )
    spool_dir: str = Field(
        "",
        description="folder for what can't be sent while the broker is away, of each replica its own; empty: 503 meanwhile",
    )
    spool_max_mb: int = Field(1_024, ge=1, description="largest size of the spool; beyond it 503")

    max_late_hours: float = Field(
        24.0,
        ge=0,
        description="an event older than this is rejected, unless it comes by /v1/import; 0 takes any age",
    )
    event_mapping: str = Field(
        "",
        description="JSON file of types by event name, beside Segment's; read again when it changes",
    )
    tracking_plan: str = Field(
        "", description="JSON file with a JSON Schema by event name; read again when it changes"
    )
    bot_filter: bool = Field(
        True, description="reject what is sent with the user agent of a crawler"
    )
    truncate_ip: bool = Field(True, description="keep IP addresses only without their last part")
    pii_drop: str = Field(
        "",
        description="properties and traits to drop: names or dotted paths, several separated by commas",
    )
    pii_hash: str = Field(
        "", description="properties and traits to keep hashed only: names or dotted paths, as above"
    )
    pii_key: SecretStr = Field(
        SecretStr(""), description="the key of these hashes; required with pii_hash"
    )
    cors_origins: str = Field(
        "*",
        description="origins whose pages may read answers, several separated by commas; *: all, since no cookie is used",
    )

    @field_validator("write_keys")
    @classmethod
    def _well_formed(cls, keys: SecretStr) -> SecretStr:
        WriteKeys(keys.get_secret_value())
        return keys

    @model_validator(mode="after")
    def _privacy_is_whole(self) -> Self:
        self.privacy()
        return self

    def privacy(self) -> Privacy:
        """What is dropped, hashed and shortened."""
        return Privacy(
            drop=listed(self.pii_drop),
            hashed=listed(self.pii_hash),
            key=self.pii_key.get_secret_value(),
            truncate_ip=self.truncate_ip,
        )

    def source_rate(self) -> Rate:
        return Rate(self.key_events_per_s, self.key_burst)

    def visitor_rate(self) -> Rate:
        return Rate(self.visitor_events_per_s, self.visitor_burst)

    def window_ms(self) -> int:
        return int(self.dedupe_window_hours * 3_600_000)


def listed(text: str) -> list[str]:
    """The parts of a setting that holds several, separated by commas."""
    return [part for part in map(str.strip, text.split(",")) if part]


class IngestionSettings(ServiceSettings):
    """All that ingestion reads from its environment."""

    # Not an instance, which would have to have a key: validated like what comes from the
    # environment.
    ingestion: IngestionSection = Field(default_factory=dict)  # type: ignore[assignment]
