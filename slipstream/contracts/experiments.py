"""Experiments: comparisons of variants of a placement's policy or model, on a share of visitors.

`experiments.v1` carries the newest state of each. Monitoring writes them, serving follows them.
"""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from slipstream.contracts.events import Millis, Moment, Record
from slipstream.contracts.placements import PlacementName

MOST_VARIANTS: Final = 10
# The variant of visitors who do not take part.
HOLDOUT: Final = "holdout"
# The variant of slates that no experiment is about: the placement's own policy.
NO_EXPERIMENT: Final = "champion"

ExperimentName = PlacementName
VariantName = PlacementName

# What an experiment may be about: the more, the better.
PRIMARY_METRICS: Final = (
    "click_through",
    "conversion",
    "clicks_per_visitor",
    "purchases_per_visitor",
    "revenue_per_visitor",
)
# What a variant must not make worse, in addition to these: the less, the better.
COSTS: Final = ("latency", "empty", "failed")
GUARDRAIL_METRICS: Final = (*PRIMARY_METRICS, *COSTS)
# A record may name a metric that is unknown here; the REST API refuses it.
MetricName = Annotated[str, Field(pattern=r"^[a-z_]{1,64}$")]


class Variant(BaseModel):
    """A variant of the placement's policy or of the model, and the visitors that it gets.

    Attributes:
        name: Name, kept with each slate.
        weight: Its share of the visitors who take part, relative to the other weights.
        placement: Placement with the policy that applies instead; empty for the slate's own.
        diversity: Diversity instead of the policy's; None leaves it.
        exploration: Exploration instead of the policy's; None leaves it.
        model: Alias or version of the model that answers; empty for the champion.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    name: VariantName
    weight: Annotated[float, Field(gt=0, le=1_000_000)] = 1.0
    placement: PlacementName | Literal[""] = ""
    diversity: Annotated[float, Field(ge=0, le=1)] | None = None
    exploration: Annotated[float, Field(ge=0, le=1)] | None = None
    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,128}$")] = ""


class Guard(BaseModel):
    """The bounds of a canary. Beyond one of them monitoring stops the experiment.

    Attributes:
        window_s: Length of the period that is judged, up to now.
        least_slates: Slates of the canary, and of the control, before which nothing is judged.
        failures: Most by which its share of slates that no model of its own made may be greater
            than the control's.
        slower: Most by which its mean and its 99th percentile of latency may be greater: a factor.
        slower_ms: Least difference in ms that counts as slower.
        lost_clicks: Share of the control's click-through that the canary may lose.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    window_s: Annotated[int, Field(ge=10, le=86_400)] = 300
    least_slates: Annotated[int, Field(ge=10, le=10_000)] = 50
    failures: Annotated[float, Field(ge=0, lt=1)] = 0.02
    slower: Annotated[float, Field(ge=1, le=100)] = 1.5
    slower_ms: Annotated[float, Field(ge=0, le=10_000)] = 5.0
    lost_clicks: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Guardrail(BaseModel):
    """A metric that no variant may make worse than the control's by more than a bound.

    Attributes:
        metric: One of `GUARDRAIL_METRICS`.
        worse: The bound: points of a share for `empty` and `failed`, else a share of the control's.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    metric: MetricName
    worse: Annotated[float, Field(ge=0, le=100)] = 0.0


class ExperimentDesign(BaseModel):
    """The visitors, the variants and the time of an experiment.

    Attributes:
        placements: Placements of the slates that it assigns.
        salt: Text that is hashed with a visitor's id; empty for the experiment's name.
        traffic: Share of visitors who take part. The others are the holdout.
        kind: `split` gives each visitor one variant. `shadow` shows the first of two, and makes the
            list of the other for the record alone. `canary` splits between two, and stops by itself
            where the second is beyond its bounds.
        variants: The control, and those that are compared with it.
        starts_at: Time from which it counts; None for at once.
        ends_at: Time from which it counts no longer; None for no end.
        state: A stopped one is kept, and assigns no visitors.
        guard: The bounds of a canary.
        metric: The primary metric, which the verdict is about: one of `PRIMARY_METRICS`.
        least_effect: Least effect of interest, as a share of the control's metric.
        guardrails: Metrics that must not become worse.
        stopped_because: The reason why monitoring stopped it; empty where a person did.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    placements: Annotated[list[PlacementName], Field(min_length=1, max_length=50)]
    salt: Annotated[str, Field(pattern=r"^[ -~]{0,64}$")] = ""
    traffic: Annotated[float, Field(ge=0, le=1)] = 1.0
    kind: Literal["split", "shadow", "canary"] = "split"
    variants: Annotated[list[Variant], Field(min_length=2, max_length=MOST_VARIANTS)]
    starts_at: Moment | None = None
    ends_at: Moment | None = None
    state: Literal["running", "stopped"] = "running"
    guard: Guard = Guard()
    metric: MetricName = PRIMARY_METRICS[0]
    least_effect: Annotated[float, Field(gt=0, le=10)] = 0.05
    guardrails: Annotated[list[Guardrail], Field(max_length=len(GUARDRAIL_METRICS))] = Field(
        default_factory=list
    )
    stopped_because: Annotated[str, Field(max_length=1_000)] = ""

    def counts(self, now_ms: int) -> bool:
        """Whether it assigns visitors at this time."""
        return (
            self.state == "running"
            and (self.starts_at is None or self.starts_at <= now_ms)
            and (self.ends_at is None or now_ms < self.ends_at)
        )

    def assigns_as(self, other: "ExperimentDesign") -> bool:
        """Whether both give every visitor the same lists, so that their slates are comparable."""
        return all(
            getattr(self, name) == getattr(other, name)
            for name in ("placements", "salt", "traffic", "kind", "variants")
        )

    def collides(self, other: "ExperimentDesign") -> bool:
        """Whether there is a moment at which both count for one placement."""
        starts = max(each.starts_at or 0 for each in (self, other))
        return (
            self.state == other.state == "running"
            and not set(self.placements).isdisjoint(other.placements)
            and all(each.ends_at is None or starts < each.ends_at for each in (self, other))
        )


class Experiment(Record):
    """`experiments.v1`, key `name`: the newest state of an experiment.

    `revision` grows by one with every change. `deleted` marks one that assigns no visitors.
    """

    name: ExperimentName
    revision: Annotated[int, Field(ge=1)]
    design: ExperimentDesign
    deleted: bool = False
    changed_at: Millis
    changed_by: str = ""
