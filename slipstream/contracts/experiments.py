"""Experiments: comparisons of variants of a placement's policy, with a share of the visitors.

`experiments.v1` carries the newest state of each. Monitoring writes them, serving follows them.
"""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from slipstream.contracts.events import Millis, Record
from slipstream.contracts.placements import PlacementName

MOST_VARIANTS: Final = 10
# The variant of visitors who do not take part.
HOLDOUT: Final = "holdout"
# The variant of slates that both variants of an interleaving experiment have made.
INTERLEAVED: Final = "interleaved"
# The variant of slates that no experiment is about: the placement's own policy.
NO_EXPERIMENT: Final = "champion"

ExperimentName = PlacementName
VariantName = PlacementName


class Variant(BaseModel):
    """A variant of the placement's policy, and the visitors that it gets.

    Attributes:
        name: Name, kept with each slate.
        weight: Its share of the visitors who take part, relative to the other weights.
        placement: Placement whose policy applies instead; empty for the slate's own.
        diversity: Diversity instead of the policy's; None leaves it.
        exploration: Exploration instead of the policy's; None leaves it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    name: VariantName
    weight: Annotated[float, Field(gt=0, le=1_000_000)] = 1.0
    placement: PlacementName | Literal[""] = ""
    diversity: Annotated[float, Field(ge=0, le=1)] | None = None
    exploration: Annotated[float, Field(ge=0, le=1)] | None = None


class ExperimentDesign(BaseModel):
    """The visitors, the variants and the time of an experiment.

    Attributes:
        placements: Placements whose slates it is about.
        salt: Text that is hashed with a visitor's id; empty for the experiment's name.
        traffic: Share of visitors who take part. The others are the holdout.
        kind: `split` gives each visitor one variant, `interleave` both of two in one list.
        variants: The control, and those that are compared with it.
        starts_at: Time from which it counts; None for at once.
        ends_at: Time from which it counts no longer; None for no end.
        state: A stopped one is kept, and assigns nobody.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    placements: Annotated[list[PlacementName], Field(min_length=1, max_length=50)]
    salt: Annotated[str, Field(pattern=r"^[ -~]{0,64}$")] = ""
    traffic: Annotated[float, Field(ge=0, le=1)] = 1.0
    kind: Literal["split", "interleave"] = "split"
    variants: Annotated[list[Variant], Field(min_length=2, max_length=MOST_VARIANTS)]
    starts_at: Millis | None = None
    ends_at: Millis | None = None
    state: Literal["running", "stopped"] = "running"

    def counts(self, now_ms: int) -> bool:
        """Whether it assigns visitors at this time."""
        return (
            self.state == "running"
            and (self.starts_at is None or self.starts_at <= now_ms)
            and (self.ends_at is None or now_ms < self.ends_at)
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

    `revision` grows by one with every change. `deleted` marks one that is gone; it assigns nobody.
    """

    name: ExperimentName
    revision: Annotated[int, Field(ge=1)]
    design: ExperimentDesign
    deleted: bool = False
    changed_at: Millis
    changed_by: str = ""
