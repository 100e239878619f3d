"""Settings of the training service: `SLIPSTREAM_TRAINING__<FIELD>`."""

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from slipstream.chassis.settings import Section, ServiceSettings


class GateSettings(Section):
    """Limits of the gate. Differences are paired, on the same queries, in NDCG@10."""

    margin: float = Field(
        0.0,
        ge=0,
        description="least difference of a challenger that replaces the champion, as a share of "
        "the champion's figure; counted at the lower end of the 95 % interval",
    )
    tolerance: float = Field(
        0.02,
        ge=0,
        description="most difference (lower end) by which a challenger may be worse than a "
        "champion older than the limit, as a share of the champion's figure",
    )
    champion_max_age_hours: float = Field(
        168.0,
        gt=0,
        description="age from which a champion is replaced by a challenger within the tolerance",
    )
    min_queries: int = Field(
        20, ge=1, description="fewest queries new to the champion for a comparison"
    )
    cohort_min_queries: int = Field(
        100,
        ge=1,
        description="fewest queries of a cohort (`cohort/...` in a run's metrics) in which a "
        "challenger may not be worse than popularity",
    )
    max_latency_ms: float = Field(
        20.0, gt=0, description="most processor time of a query (ms), at the 95th percentile"
    )
    max_bundle_mb: float = Field(
        1_024.0,
        gt=0,
        description="largest bundle (MiB), which each replica of serving fetches and keeps",
    )
    max_hit_rate: float = Field(
        0.9,
        gt=0,
        le=1,
        description="highest HR@10 of a challenger with more than 200 items; a higher one comes "
        "from scripted visitors. 1 allows any, as for episodes that are watched in their order",
    )
    min_coverage: float = Field(
        0.5,
        ge=0,
        le=1,
        description="least coverage of the catalogue by a challenger's lists of ten, as a share of "
        "the champion's; 0 allows any",
    )


class TrainingSection(Section):
    """Runs, their triggers, and the registry."""

    tracking_uri: SecretStr = Field(
        SecretStr(""),
        description="MLflow's database, a SQLAlchemy URL; if empty, mlflow.db next to the SQLite "
        "metadata, or the same PostgreSQL",
    )
    seed: int = Field(
        0,
        ge=0,
        description="seed of sampling and fitting; the same lake version and seed give the same "
        "model",
    )
    test_share: float = Field(
        0.1, gt=0, lt=0.5, description="share of the events, the latest, held out for the gate"
    )
    max_test_queries: int = Field(
        2_000,
        ge=1,
        description="most held-out events tested; of more, some are drawn over visitors, at most 3 "
        "of each",
    )
    most_events: int = Field(
        10_000_000,
        ge=2,
        description="most events that a run is fitted on, the latest ones; 10,000,000 take 5 GB of "
        "memory, plus that of reading their oldest day, which is read whole, and on two processors "
        "a second process with the events and the network",
    )
    min_events: int = Field(
        200,
        ge=2,
        description="fewest events on items; with fewer, a run fails and the champion stays",
    )
    min_visitors: int = Field(2, ge=1, description="fewest visitors; with fewer, a run fails")
    min_items: int = Field(2, ge=1, description="fewest items; with fewer, a run fails")
    exclude_scripted: bool = Field(
        True,
        description="leave visitors out of training and judging that act as no person does; false "
        "where a device acts for a person, such as a player that goes on by itself",
    )
    rating_scale: float = Field(
        0.0,
        ge=0,
        description="rating that counts in full, lower ones in proportion; 0 counts all in full",
    )
    event_weights: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default={},
        description='weights of event types, as JSON, such as {"purchase": 5, "view": 0.5}; 0 '
        "leaves a type out, and types that are not named keep their weight (view, click 1; cart, "
        "like, wishlist 2; purchase 3; others 1)",
    )
    usual_value: float = Field(
        0.0,
        ge=0,
        description="value of a cart or purchase that counts in full, others by the square root of "
        "the proportion, between half and double; 0 counts all in full",
    )
    run_timeout_s: float = Field(
        43_200.0,
        gt=0,
        description="longest time of a run (s), without that in a queue of Kueue; then it is "
        "stopped and fails",
    )
    launcher: Literal["process", "kubernetes", "external"] = Field(
        "process",
        description="who starts `python -m services training-run` for a run: the service, as a "
        "child process or as a Kubernetes Job, or somebody else (`external`)",
    )
    exchange: str = Field(
        "",
        pattern=r"^([^:]*|s3://[^/]+/.+)$",
        description="where the service and runs leave files for one another: a folder that both "
        "mount, or s3://bucket/prefix; if empty, `exchange` next to the bundles",
    )
    exchange_options: dict[str, str] = Field(
        default={},
        description="storage options of the exchange on S3, as JSON; empty takes the lake's",
    )
    job_template: str = Field(
        "training-run",
        description="CronJob in the service's Kubernetes namespace; its `jobTemplate` is that of "
        "every run's Job",
    )
    job_kind: Literal["job", "trainjob"] = Field(
        "job",
        description="what the service submits for a run: a Job, or the same as a TrainJob of "
        "Kubeflow Trainer 2.3",
    )
    job_queue: str = Field(
        "",
        pattern=r"^([a-z0-9]([a-z0-9-]*[a-z0-9])?)?$",
        description="Kueue's LocalQueue in that namespace; a run's Job waits for its quota; if "
        "empty, none",
    )
    device: Literal["auto", "cpu", "gpu"] = Field(
        "auto",
        description="where a run's network is trained: on a GPU where torch sees one (`auto`), "
        "always on the CPU, or always on a GPU, which a run's Job then reserves and without which "
        "a run fails",
    )
    processes: int = Field(
        1,
        ge=1,
        le=64,
        description="processes that train a run's network together, on one machine; `gpu` needs "
        "and reserves one for each",
    )
    niceness: int = Field(
        10,
        ge=0,
        le=19,
        description="priority that a run's process gives up, so that serving on the same machine "
        "stays quick",
    )
    code_commit: str = Field(
        "",
        description="commit of this program, kept with each model; empty asks git, where there is "
        "a repository",
    )
    keep_models: int = Field(
        20,
        ge=2,
        description="newest models kept; those of an alias and of its predecessor always are",
    )
    erasure_hours: float = Field(
        504.0,
        gt=0,
        le=696,
        description="time after an erasure (hours) within which every version of a model from "
        "before it is deleted, the champion too; at half of it a run makes one to replace it. At "
        "most 29 days, within the month of the GDPR",
    )
    schedule_profile: Literal["fast", "best"] = Field(
        "fast", description="profile of runs that no person requested"
    )
    search_minutes: float = Field(
        0.0,
        ge=0,
        description="time in which a run of profile best tries other parameters of the network "
        "(minutes), at least until one training has ended; later runs begin with the best. Part of "
        "run_timeout_s; 0 is off",
    )
    schedule_minutes: int = Field(
        1_440, ge=0, description="time after the last run until the next (minutes); 0 is off"
    )
    new_events: int = Field(
        50_000,
        ge=0,
        description="interactions in the lake since the last run that start another; 0 is off",
    )
    catalog_changes: int = Field(
        1_000,
        ge=0,
        description="items added, changed or deleted since the last run that start another; 0 is "
        "off",
    )
    check_seconds: float = Field(
        15.0, gt=0, description="time between checks of the schedule and the lake (s)"
    )
    cooldown_minutes: float = Field(
        30.0,
        ge=0,
        description="time after a run in which new events and items start none, and alerts wait "
        "(minutes)",
    )
    gate: GateSettings = GateSettings()

    @model_validator(mode="after")
    def _queue_has_jobs(self) -> Self:
        if self.launcher != "kubernetes" and (self.job_queue or self.job_kind != "job"):
            raise ValueError("job_queue and job_kind are for launcher kubernetes: leave them out")
        return self

    @model_validator(mode="after")
    def _search_leaves_time(self) -> Self:
        if 60 * self.search_minutes >= self.run_timeout_s:
            raise ValueError(
                "search_minutes must leave time of run_timeout_s for the rest of the run"
            )
        return self


class TrainingSettings(ServiceSettings):
    """All settings of the training service."""

    training: TrainingSection = TrainingSection()
