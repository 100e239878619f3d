"""Settings of the training service: `SLIPSTREAM_TRAINING__<FIELD>`."""

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from slipstream.chassis.settings import Section, ServiceSettings


class GateSettings(Section):
    """When a challenger replaces the champion. Differences are paired, on the same queries, in
    NDCG@10.
    """

    margin: float = Field(
        0.0,
        ge=0,
        description="how much better it must surely be (lower end of the 95 % interval), as a share of the champion's figure",
    )
    tolerance: float = Field(
        0.02,
        ge=0,
        description="how much worse it may be at most (lower end), as a share, once the champion is older than the limit",
    )
    champion_max_age_hours: float = Field(
        168.0, gt=0, description="an older champion is replaced by one that is not worse"
    )
    min_queries: int = Field(
        20, ge=1, description="fewer queries that the champion has not seen are no comparison"
    )
    cohort_min_queries: int = Field(
        100,
        ge=1,
        description="it may not be worse than popularity in any cohort (see `cohort/...` of a run) of so many queries",
    )
    max_latency_ms: float = Field(
        20.0, gt=0, description="most processor time of one query, at the 95th percentile"
    )
    max_bundle_mb: float = Field(
        1_024.0,
        gt=0,
        description="largest bundle, in MiB: each replica of serving fetches and keeps it",
    )


class TrainingSection(Section):
    """Runs, their triggers, and the registry."""

    tracking_uri: SecretStr = Field(
        SecretStr(""),
        description="MLflow's database, a SQLAlchemy URL; empty: mlflow.db beside the SQLite metadata, or the same PostgreSQL",
    )
    seed: int = Field(
        0, ge=0, description="of sampling and fitting: same lake version and seed, same model"
    )
    test_share: float = Field(
        0.1, gt=0, lt=0.5, description="the last share of events by time is held out for the gate"
    )
    max_test_queries: int = Field(
        2_000, ge=1, description="of more held-out events, a sample is asked"
    )
    min_events: int = Field(
        200, ge=2, description="with fewer events on items a run fails and the champion goes on"
    )
    min_visitors: int = Field(2, ge=1)
    min_items: int = Field(2, ge=1)
    rating_scale: float = Field(
        0.0,
        ge=0,
        description="the rating that counts in full, lower ones in proportion; 0: all count in full, whatever their value",
    )
    event_weights: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default={},
        description='how much events of a type say, as JSON, such as {"purchase": 5, "view": 0.5}; 0 leaves a type out, and '
        "types that are not named keep their weight (view, click 1; cart, like, wishlist 2; purchase 3; others 1)",
    )
    usual_value: float = Field(
        0.0,
        ge=0,
        description="a cart or purchase of this value counts in full, others by the square root of the proportion, between half "
        "and double; 0: all count in full",
    )
    run_timeout_s: float = Field(
        43_200.0, gt=0, description="a run that takes longer is stopped and fails"
    )
    niceness: int = Field(
        10,
        ge=0,
        le=19,
        description="priority given up by a run's process, so that serving beside it stays quick",
    )
    code_commit: str = Field(
        "",
        description="of this program, kept with each model; empty asks git, where there is a repository",
    )
    keep_models: int = Field(
        20,
        ge=2,
        description="bundles kept on disk; those of an alias and of its predecessor always are",
    )
    schedule_profile: Literal["fast", "best"] = Field(
        "fast", description="of runs that nobody asked for"
    )
    search_minutes: float = Field(
        0.0,
        ge=0,
        description="a run of profile best tries other parameters of the network for so long, at least until one training has "
        "ended, and later runs begin with the best; part of run_timeout_s; 0 is off",
    )
    schedule_minutes: int = Field(
        1_440, ge=0, description="a run so long after the last one; 0 is off"
    )
    new_events: int = Field(
        50_000,
        ge=0,
        description="a run when the lake has so many more interactions than the last run read; 0 is off",
    )
    catalog_changes: int = Field(
        1_000,
        ge=0,
        description="a run when so many items were added, changed or deleted since the last run read the catalogue; 0 is off",
    )
    check_seconds: float = Field(
        15.0, gt=0, description="how often the schedule and the lake's count are looked at"
    )
    cooldown_minutes: float = Field(
        30.0, ge=0, description="after a run, new events and items start none, and alerts wait"
    )
    gate: GateSettings = GateSettings()

    @model_validator(mode="after")
    def _search_leaves_time(self) -> Self:
        if 60 * self.search_minutes >= self.run_timeout_s:
            raise ValueError(
                "search_minutes must leave time of run_timeout_s for the rest of the run"
            )
        return self


class TrainingSettings(ServiceSettings):
    """Everything that the training service is configured by."""

    training: TrainingSection = TrainingSection()
