"""The settings of monitoring."""

from pydantic import Field, SecretStr, field_validator

from services.monitoring import runbook
from services.monitoring.channels import channels
from slipstream.chassis.settings import Section, ServiceSettings, listed
from slipstream.contracts.services import SERVICES
from slipstream.contracts.spellings import did_you_mean


class MonitoringSection(Section):
    """Periods, retention, and thresholds of built-in alerts."""

    attribution_window_s: int = Field(
        1_800,
        ge=1,
        description="oldest slate that an interaction without recommendation_id is attributed to",
    )
    slate_retention_h: int = Field(
        72,
        ge=1,
        description="retention of the sums of answers and of shadows; later ones are left out",
    )
    report_retention_d: int = Field(
        90,
        ge=1,
        description="retention of the counts behind the reports, of the windows that drift is "
        "judged by, and of an experiment's sums after its end",
    )

    count_every_s: float = Field(
        15.0,
        gt=0,
        description="time from one count of the lake's new rows to the next; where counting takes "
        "longer than a fifth of that, it rests four times as long, and five minutes at most",
    )
    credit_d: int = Field(
        30,
        ge=1,
        le=365,
        description="days for which a recommended item's click or cart is credited with the "
        "visitor's purchases of it",
    )

    erase_every_s: float = Field(
        5.0, gt=0, description="interval at which tables are searched for erased visitors"
    )
    erasure_rewrite_max_mb: int = Field(
        1_024,
        ge=0,
        description="size up to which PostgreSQL rewrites a table after an erasure, which locks "
        "the table meanwhile; it only vacuums a larger one",
    )
    erasure_caches_h: float = Field(
        24.0,
        ge=0,
        description="time after which ingestion has forgotten the ids of an erased user's "
        "messages; at least its window for repeats",
    )
    log_retention_d: float = Field(
        30.0,
        ge=0,
        description="days for which the services' logs are kept where they are collected; receipts "
        "of erasures count on it",
    )

    check_interval_s: float = Field(
        15.0, gt=0, description="time from one round of checks to the next"
    )
    probe_timeout_s: float = Field(
        2.0, gt=0, description="deadline of each request to another service"
    )
    may_sleep: str = Field(
        "",
        description="services that are scaled to zero while nothing needs them, separated by "
        "commas: without an instance they are asleep, which opens no alert",
    )
    guard_every_s: float = Field(
        5.0, gt=0, description="time from one judgement of canaries to the next"
    )
    failing_checks_to_open: int = Field(
        3, ge=1, description="consecutive failing checks that open an alert"
    )
    passing_checks_to_close: int = Field(
        5, ge=1, description="consecutive good checks that close an alert"
    )

    notify_urls: SecretStr = Field(
        SecretStr(""),
        description="addresses in apprise's form that alerts are sent to where there is no "
        "Alertmanager, separated by spaces, as jsons://host/path, slack://TokenA/TokenB/TokenC or "
        "mailtos://user:password@host?to=people@shop.example",
    )

    runbook_url: str = Field(
        "",
        pattern=r"^(https?://\S*[^\s/])?$",
        description="where people reach the runbook's pages, as "
        "https://monitoring.shop.example/runbook, for links in alerts; empty: at this service "
        "(SLIPSTREAM_PEERS__MONITORING_URL)",
    )

    drift_window_s: int = Field(
        21_600,
        ge=1,
        description="length of a window in which a shift of what visitors do is looked for; two in "
        "a row must show it",
    )
    fault_window_s: int = Field(
        3_600, ge=1, description="length of a window in which a fault of the data is looked for"
    )
    drift_season_s: int = Field(
        604_800,
        ge=1,
        description="time after which visitors behave alike again; a window is compared with those "
        "whole seasons before",
    )
    drift_max_samples: int = Field(
        5_000,
        ge=100,
        description="most visitors of a window; of more, a share is taken by a hash of their ids",
    )
    drift_min_visitors: int = Field(
        300, ge=1, description="least different visitors for a verdict on drift"
    )
    drift_alpha: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="chance of a false finding in a month, of all measures and windows together",
    )
    psi_warning: float = Field(
        0.1, gt=0, description="population stability index that is a warning"
    )
    psi_critical: float = Field(
        0.25, gt=0, description="population stability index that is critical"
    )

    quality_period_s: int = Field(
        86_400,
        ge=10,
        description="length of a period; the click-through of the last two is compared with that "
        "of whole seasons before",
    )
    quality_min_slates: int = Field(
        200, ge=1, description="least slates for a verdict on click-through or the mix of steps"
    )

    shop: bool = Field(
        False,
        description="serve a shop to try recommendations in at `/shop`, which sends events as any "
        "shop does",
    )
    shop_ingestion_url: str = Field(
        "",
        pattern=r"^(https?://[A-Za-z0-9.:\[\]-]+)?$",
        description="where browsers reach ingestion, for the events of that shop; empty: where "
        "this service does (SLIPSTREAM_PEERS__INGESTION_URL)",
    )
    shop_key: str = Field(
        "", description="browser key of the events of that shop, which its page shows to everyone"
    )

    @field_validator("may_sleep")
    @classmethod
    def _of_services(cls, names: str) -> str:
        for name in listed(names):
            if name not in SERVICES:
                raise ValueError(f"there is no service {name!r}: {did_you_mean(name, SERVICES)}")
        return names

    @field_validator("notify_urls")
    @classmethod
    def _of_apprise(cls, urls: SecretStr) -> SecretStr:
        channels(urls.get_secret_value())
        return urls


class MonitoringSettings(ServiceSettings):
    """The settings that monitoring reads from the environment."""

    monitoring: MonitoringSection = MonitoringSection()

    @property
    def runbook_address(self) -> str:
        """The address of the runbook for those who get an alert elsewhere."""
        return self.monitoring.runbook_url or f"{self.peers.monitoring_url}{runbook.PATH}"
