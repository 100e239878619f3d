"""Settings that every service shares, from environment variables `SLIPSTREAM_<SECTION>__<FIELD>`.

Settings are read once, at the entry point, and passed down; they are frozen.
`docs/configuration.md` is generated from these classes.
"""

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from slipstream.contracts.services import SERVICES


class Section(BaseModel):
    """A group of settings. An unknown name is an error rather than a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def listed(text: str) -> list[str]:
    """The parts of a setting that holds several, separated by commas."""
    return [part for part in map(str.strip, text.split(",")) if part]


class KafkaSettings(Section):
    """Address and limits of the Kafka-protocol broker."""

    bootstrap_servers: str = Field(
        "127.0.0.1:9092", description="host:port, several separated by commas"
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: str = Field(
        "PLAIN", description="used with a SASL_ protocol: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"
    )
    sasl_username: str = ""
    sasl_password: SecretStr = SecretStr("")
    ssl_cafile: str = Field("", description="CA certificate file; empty takes the system's")
    replication_factor: int = Field(
        1,
        ge=1,
        description="replicas of topics that we create; 3 on a cluster, where two of them must "
        "have a record before it is acknowledged",
    )
    max_partitions: int = Field(
        12,
        ge=1,
        description="most partitions of a topic that we create; each costs the broker and its "
        "readers time, also at rest, and is read by one replica of a service at most; "
        "`slipstream up` sets 3 for its embedded broker",
    )
    session_timeout_ms: int = Field(
        10_000,
        ge=1_000,
        description="ms without a heartbeat after which a consumer is removed from its group; "
        "Kafka accepts 6000 or more by default",
    )
    instance_id: str = Field(
        "",
        description="stable name of this replica, unique among its service's replicas; a replica "
        "that restarts reads again at once, without waiting for the end of its old session; "
        "{hostname} stands for the machine's name",
    )
    fetch_max_wait_ms: int = Field(
        20,
        ge=1,
        description="how long a broker may hold an empty fetch; bounds the delay of a click. After "
        "ten seconds without a record it is twice that, and at least 200",
    )
    delivery_timeout_ms: int = Field(
        10_000, ge=1_000, description="give up on an acknowledgement after this"
    )
    max_poll_bytes: int = Field(
        8_388_608,
        ge=65_536,
        description="bytes of records that a consumer takes at once; decoded, they need up to 25 "
        "times as much memory",
    )
    max_unacknowledged_bytes: int = Field(
        67_108_864,
        ge=1_048_576,
        description="most bytes of unacknowledged records that a producer holds, counted "
        "separately for records that a caller waits for and for others; more are refused as if "
        "the broker were unavailable",
    )

    @field_validator("instance_id")
    @classmethod
    def _with_hostname(cls, value: str) -> str:
        return value.replace("{hostname}", socket.gethostname())


class RedisSettings(Section):
    """Address and limits of the Redis or Valkey server that holds the online store."""

    url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="redis:// or rediss:// (TLS), of one server; or the Sentinels that know the "
        "primary: redis+sentinel://host:port,host:port/service/db; or nodes of a Redis Cluster: "
        "redis+cluster://host:port,host:port",
    )
    timeout_s: float = Field(1.0, gt=0, description="deadline of one command")
    max_connections: int = Field(
        64, ge=1, description="most connections, to each node of a cluster"
    )


class DatabaseSettings(Section):
    """The SQL database for metadata."""

    url: SecretStr = Field(
        SecretStr("sqlite:///.slipstream/metadata.db"),
        description="SQLAlchemy URL; PostgreSQL: postgresql+psycopg://user:password@host/db",
    )
    lease_s: float = Field(
        15.0,
        ge=1,
        description="seconds without a sign of the acting instance of training or monitoring "
        "after which another one takes over; after a kill, the next one waits that long",
    )


class LakeSettings(Section):
    """The Delta lake that holds history."""

    uri: str = Field(".slipstream/lake", description="a folder, or s3://bucket/prefix")
    storage_options: dict[str, str] = Field(
        default_factory=dict, description="passed to delta-rs, as JSON"
    )


class ArtifactSettings(Section):
    """Where model bundles are kept."""

    directory: Path = Field(
        Path(".slipstream/models"), description="a folder that outlives the process"
    )


class HttpSettings(Section):
    """The HTTP server."""

    host: str = "127.0.0.1"
    port: int = Field(0, ge=0, le=65_535, description="0 takes the service's own port (8001-8005)")
    api_token: SecretStr = Field(
        SecretStr(""),
        description="bearer token with the scopes read, write, operate and admin; when set, every "
        "service but ingestion asks for credentials, and services send it to one another; 32 "
        "characters or more where other machines reach a service",
    )
    open_without_credentials: bool = Field(
        False,
        description="let a service that asks for no credentials listen beyond this machine; only "
        "where no stranger reaches its port",
    )
    hosts: str = Field(
        "",
        description="host names with dots at which clients reach services other than ingestion, "
        "separated by commas; *: any. Requests that change something are refused at other names, "
        "and from pages of other names",
    )
    trusted_proxies: str = Field(
        "127.0.0.1",
        description="addresses or networks of proxies that set X-Forwarded-For to the client, "
        "separated by commas",
    )
    max_body_bytes: int = Field(
        4_194_304,
        ge=1_024,
        description="a larger request body is answered with 413; ingestion has a limit of its own",
    )
    max_head_bytes: int = Field(
        65_536,
        ge=1_024,
        description="a larger request line with headers is answered with 431; the pixel carries an "
        "event in its address",
    )
    max_connections: int = Field(
        1_000,
        ge=1,
        description="open connections; at the limit, the one that has waited longest for its "
        "client is closed",
    )
    max_pending_bytes: int = Field(
        33_554_432,
        ge=1_024,
        description="bytes of large bodies that are held at once, over all connections; beyond it "
        "503",
    )
    client_timeout_s: float = Field(
        20.0,
        gt=0,
        description="time within which a client must send a whole request, and go on reading an "
        "answer; then 408, or the connection ends",
    )
    drain_s: float = Field(
        0.0,
        ge=0,
        description="how long after a stop signal answers ask clients to reconnect, before idle "
        "connections are closed; behind a load balancer it keeps requests from breaking",
    )
    shutdown_grace_s: int = Field(
        10, ge=0, description="how long requests under way may take after a stop signal"
    )


class AccessSettings(Section):
    """Signed tokens (JWT): how they are verified. Their claim `scope` lists what they grant."""

    token_secret: SecretStr = Field(
        SecretStr(""),
        description="shared secret, of 32 bytes or more, of tokens signed by HS256; services then "
        "send one another such tokens of five minutes instead of the API token",
    )
    token_keys: str = Field(
        "",
        description="file of the public keys that verify tokens: a JWKS, or one key in PEM; within "
        "5 seconds of a change it is read again, and tokens of removed keys end",
    )
    token_issuer: str = Field("slipstream", description="`iss` of the tokens that are accepted")
    token_audience: str = Field("slipstream", description="`aud` of the tokens that are accepted")

    @field_validator("token_secret")
    @classmethod
    def _long_enough(cls, secret: SecretStr) -> SecretStr:
        if 0 < len(secret.get_secret_value().encode()) < 32:
            raise ValueError("a shared secret has 32 bytes or more")
        return secret


class LogSettings(Section):
    """The log. At info it has requests that failed or took over a second; at debug, all requests
    and every consumed record.
    """

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"


class TracingSettings(Section):
    """Tracing: spans of a share of the requests, and of the work on their records, for a collector
    that takes OTLP over HTTP. See docs/observability.md.
    """

    otlp_url: str = Field(
        "",
        pattern=r"^(https?://.+)?$",
        description="address of the collector, such as http://collector:4318; spans go to "
        "/v1/traces below it; empty: nothing is traced",
    )
    share: float = Field(
        0.01,
        ge=0,
        le=1,
        description="share of the requests that are traced, of those without a `traceparent`; "
        "a request with one is traced as it says",
    )
    most_per_s: int = Field(
        100,
        ge=1,
        description="most requests that one process begins to trace in a second, since any client "
        "may send a `traceparent`",
    )


class PeerSettings(Section):
    """Where the other services answer."""

    ingestion_url: str = SERVICES["ingestion"].local_url
    features_url: str = SERVICES["features"].local_url
    training_url: str = SERVICES["training"].local_url
    serving_url: str = SERVICES["serving"].local_url
    monitoring_url: str = SERVICES["monitoring"].local_url
    timeout_s: float = Field(5.0, gt=0)


class ServiceSettings(BaseSettings):
    """Base of each service's settings; a service adds a section of its own name."""

    model_config = SettingsConfigDict(
        env_prefix="SLIPSTREAM_",
        env_nested_delimiter="__",
        frozen=True,
        extra="ignore",
        nested_model_default_partial_update=True,
    )

    namespace: str = Field(
        "slipstream",
        pattern=r"^[a-z][a-z0-9-]{0,39}$",
        description="prefix of all topics, keys and groups, so that tenants share a cluster",
    )
    kafka: KafkaSettings = KafkaSettings()
    redis: RedisSettings = RedisSettings()
    database: DatabaseSettings = DatabaseSettings()
    lake: LakeSettings = LakeSettings()
    artifacts: ArtifactSettings = ArtifactSettings()
    http: HttpSettings = HttpSettings()
    access: AccessSettings = AccessSettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()
    peers: PeerSettings = PeerSettings()


def wrong_settings(error: ValidationError) -> str:
    """The faults of settings from the environment as one line that names each variable."""
    return f"settings: {'; '.join(map(_wrong_setting, error.errors()))}"


def _wrong_setting(error: Mapping[str, Any]) -> str:
    variable = f"SLIPSTREAM_{'__'.join(map(str, error['loc'])).upper()}"
    reason = str(error["msg"]).removeprefix("Value error, ")
    return reason if reason.startswith(variable) else f"{variable}: {reason}"
