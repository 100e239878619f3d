"""Settings of the monitoring service."""

from pydantic import Field

from slipstream.chassis.settings import Section, ServiceSettings


class MonitoringSection(Section):
    """What is measured over which time, and when it becomes an alert."""

    attribution_window_s: int = Field(
        1_800,
        ge=1,
        description="an interaction without recommendation_id counts for a slate at most so old",
    )
    slate_retention_h: int = Field(
        72,
        ge=1,
        description="slates and what followed are kept so long; an interaction later than this is not attributed",
    )
    pending_retention_s: int = Field(
        3_600,
        ge=1,
        description="how long an interaction may wait for a slate that arrives after it",
    )
    report_retention_d: int = Field(
        90, ge=1, description="how long the counts that reports are made of are kept"
    )

    check_interval_s: float = Field(
        15.0, gt=0, description="time from one round of checks to the next"
    )
    probe_timeout_s: float = Field(
        2.0, gt=0, description="deadline of each question to another service"
    )
    failing_checks_to_open: int = Field(
        3, ge=1, description="an alert opens after so many failing checks in a row"
    )
    passing_checks_to_close: int = Field(
        5, ge=1, description="an alert closes after so many good checks in a row"
    )

    drift_window_s: int = Field(
        21_600, ge=1, description="features of slates so recent are compared with the reference"
    )
    drift_max_samples: int = Field(
        5_000, ge=1, description="of these slates, at most so many, the newest"
    )
    drift_min_visitors: int = Field(
        300, ge=1, description="no verdict on drift with fewer different visitors"
    )
    psi_warning: float = Field(
        0.1, gt=0, description="population stability index that is a warning"
    )
    psi_critical: float = Field(
        0.25, gt=0, description="population stability index that is critical"
    )

    quality_period_s: int = Field(
        86_400,
        ge=300,
        description="click-through of the last period is compared with the period before it",
    )
    quality_min_slates: int = Field(
        200, ge=1, description="no verdict on click-through or fallbacks with fewer slates"
    )
    fallback_share_warning: float = Field(
        0.5, gt=0, le=1, description="share of slates not answered by the model"
    )
    features_lag_warning: int = Field(
        10_000, ge=1, description="records that features may be behind"
    )
    features_delay_warning_s: int = Field(
        60, ge=1, description="how long features may be silent while interactions arrive"
    )


class MonitoringSettings(ServiceSettings):
    """Everything that the monitoring service reads from its environment."""

    monitoring: MonitoringSection = MonitoringSection()
