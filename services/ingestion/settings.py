"""Ingestion's settings."""

from typing import Final, Self

from pydantic import Field, SecretStr, model_validator

from services.ingestion.budgets import Budgets
from services.ingestion.fields import MAX_DEPTH, MAX_EVENT_BYTES
from services.ingestion.privacy import Privacy
from slipstream.chassis.access.keys import KnownKey, digest_of
from slipstream.chassis.access.page_tokens import public_key_of
from slipstream.chassis.settings import Section, ServiceSettings, listed
from slipstream.contracts.access import BROWSER_SCOPES, INGESTION_SCOPES, Principal
from slipstream.contracts.times import HOUR_MS
from slipstream.stores.admission_store import Rate, Rates

_WRITE_KEYS: Final = "SLIPSTREAM_INGESTION__WRITE_KEYS"
_BROWSER_KEYS: Final = "SLIPSTREAM_INGESTION__BROWSER_KEYS"


class IngestionSection(Section):
    """Write keys, limits and rules of intake. The limits are those of Segment's tracking API."""

    write_keys: SecretStr = Field(
        SecretStr(""),
        description="keys of servers, with all of ingestion's scopes: name:key, several separated "
        "by commas; required. The name becomes the `source` of its events",
    )
    browser_keys: SecretStr = Field(
        SecretStr(""),
        description="keys for web pages, with the scopes events and identify, taken from pages of "
        "`cors_origins`: name:key, several separated by commas",
    )
    max_event_bytes: int = Field(MAX_EVENT_BYTES, ge=256, description="a larger event is rejected")
    max_body_bytes: int = Field(
        512_000, ge=1_024, description="a larger request body is answered with 413"
    )
    max_body_values: int = Field(
        65_536,
        ge=1_024,
        description="a request body with more values, lists and objects, counted by its commas and "
        "brackets, is answered with 413",
    )
    max_event_depth: int = Field(
        MAX_DEPTH,
        ge=2,
        le=MAX_DEPTH,
        description="an event in which objects and lists are nested deeper is rejected",
    )
    max_event_records: int = Field(
        500,
        ge=1,
        description="an event is rejected if its products and impressions make more records",
    )
    max_request_records: int = Field(
        10_000, ge=1, description="a request that makes more records is answered with 413"
    )
    max_request_bytes: int = Field(
        8 * 2**20,
        ge=65_536,
        description="a request is answered with 413 if its records could take more bytes",
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
        description="how long Redis remembers a `messageId`, so that a repeat is a duplicate; "
        "0: not at all",
    )
    key_events_per_s: float = Field(
        0.0,
        ge=0,
        description="records a second that a server's key may send, else 429; each product and "
        "impression of an event is one; 0: no limit",
    )
    key_burst: int = Field(
        10_000,
        ge=1,
        description="records that a server's key may send at once; a larger batch is taken if the "
        "key was idle",
    )
    # Off, since rejected events are lost, and no rate fits both a browser and a shop's server,
    # which may send a user's day at once.
    visitor_events_per_s: float = Field(
        0.0,
        ge=0,
        description="records a second of one visitor that come with a server's key, beyond which "
        "they are rejected; 0: no limit",
    )
    visitor_burst: int = Field(
        2_500,
        ge=1,
        description="records of one visitor that a server's key may send at once; a whole batch "
        "may be of one visitor",
    )
    browser_key_records_per_s: float = Field(
        1_000.0,
        ge=0,
        description="records a second that a browser's key may send, from all pages together, else "
        "429; 0: no limit",
    )
    browser_key_burst: int = Field(
        30_000, ge=1, description="records that a browser's key may send at once"
    )
    browser_visitor_records_per_s: float = Field(
        50.0,
        ge=0,
        description="records a second of one visitor that come with a browser's key, beyond which "
        "they are rejected; 0: no limit; 50 is far above a person's rate",
    )
    browser_visitor_burst: int = Field(
        1_000, ge=1, description="records of one visitor that a browser's key may send at once"
    )
    browser_links_per_user: int = Field(
        20,
        ge=0,
        description="anonymous visitors that browsers' keys may link to one user within an hour, "
        "beyond which links are rejected; those with a proof and those without are counted apart; "
        "0: no limit",
    )
    browser_new_visitors: int = Field(
        3,
        ge=0,
        description="new visitors of one address and day, sent by a browser's key without a proof, "
        "that models and lists learn from, or 1 % of the key's where that is more; the events of "
        "others count for themselves alone; 0: no limit",
    )
    browser_max_batch_events: int = Field(
        500, ge=1, description="more events in one body with a browser's key are answered with 413"
    )
    address_kib_per_s: float = Field(
        512.0,
        ge=0,
        description="KiB a second of one address that come without a server's key in the header, "
        "else 429, for each replica alone; 0: no limit. Behind a proxy, "
        "SLIPSTREAM_HTTP__TRUSTED_PROXIES must name it",
    )
    address_burst_kib: int = Field(
        4_096, ge=1, description="KiB that such an address may send at once"
    )

    max_late_hours: float = Field(
        24.0,
        ge=0,
        description="an event older than this is rejected, unless it comes by /v1/import; "
        "0: any age is taken",
    )
    event_mapping: str = Field(
        "",
        description="JSON file that maps further event names to types, in addition to Segment's; "
        "read again when it changes",
    )
    tracking_plan: str = Field(
        "", description="JSON file with a JSON Schema by event name; read again when it changes"
    )
    bot_filter: bool = Field(True, description="reject events with the user agent of a crawler")
    cors_origins: str = Field(
        "*",
        description="origins with pages that may read answers, separated by commas; *: all, "
        "which is safe since no cookie is used",
    )

    @model_validator(mode="after")
    def _well_formed(self) -> Self:
        self.keys()
        return self

    def keys(self) -> dict[str, KnownKey]:
        """The configured keys by digest."""
        return configured_keys(
            self.write_keys.get_secret_value(),
            self.browser_keys.get_secret_value(),
            self.cors_origins,
        )

    def budgets(self) -> Budgets:
        return Budgets(
            self.max_event_bytes,
            self.max_event_depth,
            self.max_event_records,
            self.max_request_records,
            self.max_request_bytes,
        )

    def server_rates(self) -> Rates:
        return Rates(
            Rate(self.key_events_per_s, self.key_burst),
            Rate(self.visitor_events_per_s, self.visitor_burst),
        )

    def browser_rates(self) -> Rates:
        return Rates(
            Rate(self.browser_key_records_per_s, self.browser_key_burst),
            Rate(self.browser_visitor_records_per_s, self.browser_visitor_burst),
            links_per_hour=self.browser_links_per_user,
            new_visitors=self.browser_new_visitors,
        )

    def window_ms(self) -> int:
        return int(self.dedupe_window_hours * HOUR_MS)


class PrivacySettings(Section):
    """Personal fields, and how they are published."""

    truncate_ip: bool = Field(True, description="keep IP addresses only without their last part")
    drop_fields: str = Field(
        "",
        description="properties and attributes of users to drop: names or dotted paths, several "
        "separated by commas",
    )
    hash_fields: str = Field(
        "",
        description="properties and attributes of users to keep only as hashes: names or dotted "
        "paths, several separated by commas",
    )
    hash_key: SecretStr = Field(
        SecretStr(""), description="key of these hashes; required with `hash_fields`"
    )

    @model_validator(mode="after")
    def _checked(self) -> Self:
        self.policy()
        return self

    def policy(self) -> Privacy:
        """The privacy policy that these settings describe. Raises ValueError if they make none."""
        return Privacy(
            drop=listed(self.drop_fields),
            hashed=listed(self.hash_fields),
            key=self.hash_key.get_secret_value(),
            truncate_ip=self.truncate_ip,
        )


class IngestionSettings(ServiceSettings):
    """All settings of ingestion."""

    privacy: PrivacySettings = PrivacySettings()
    # Not an instance, since there is no default for the required write keys: an empty section is
    # validated like variables, and names what is missing.
    ingestion: IngestionSection = Field(default_factory=dict)  # type: ignore[assignment]


def configured_keys(servers: str, browsers: str, pages: str) -> dict[str, KnownKey]:
    """Read the keys of the settings; returns them by digest.

    Keys of servers have all of ingestion's scopes, keys of browsers those that a page may have.
    Each has the form `name:key,name2:key2`. A key may hold a colon, but no comma.

    Args:
        browsers: Keys that web pages show to everyone.
        pages: Origins that browsers' keys are taken from; with `*` among them, from anywhere.

    Raises:
        ValueError: There is no key of a server, or a name or key is empty or given twice.
    """
    origins = frozenset(listed(pages))
    if "*" in origins:
        origins = frozenset()
    keys: dict[str, KnownKey] = {}
    names: set[str] = set()
    for variable, entries, scopes, of_browser in (
        (_WRITE_KEYS, servers, INGESTION_SCOPES, False),
        (_BROWSER_KEYS, browsers, BROWSER_SCOPES, True),
    ):
        for entry in listed(entries):
            name, _, key = entry.partition(":")
            if not name or not key:
                raise ValueError(f"{variable}: each entry is name:key, several separated by commas")
            digest = digest_of(key)
            if name in names or digest in keys:
                raise ValueError(f"{variable}: {name}: a name and a key may each appear once")
            names.add(name)
            keys[digest] = KnownKey(
                Principal(name, scopes, of_browser),
                origins if of_browser else frozenset(),
                page_key="" if of_browser else public_key_of(key),
            )
        if not keys:
            raise ValueError(f"{_WRITE_KEYS} is not set: give at least one name:key")
    return keys
