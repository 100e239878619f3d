"""The body of an experiment's design: the contract's, and the checks that records are spared."""

from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from slipstream.contracts.experiments import (
    HOLDOUT,
    INTERLEAVED,
    MOST_VARIANTS,
    NO_EXPERIMENT,
    ExperimentDesign,
    Guard,
    Variant,
)
from slipstream.contracts.vocabulary import CHAMPION


class VariantBody(Variant, extra="forbid"):
    """A variant."""


class GuardBody(Guard, extra="forbid"):
    """The bounds of a canary."""


class DesignBody(ExperimentDesign, extra="forbid"):
    """The visitors, the variants and the time of an experiment."""

    variants: Annotated[  # type: ignore[assignment]
        list[VariantBody], Field(min_length=2, max_length=MOST_VARIANTS)
    ]
    guard: GuardBody = GuardBody()

    @model_validator(mode="after")
    def _is_of_one_piece(self) -> Self:
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise _refused("two variants have the same name")
        if taken := {HOLDOUT, INTERLEAVED, NO_EXPERIMENT} & set(names):
            raise _refused(f"{taken.pop()} is no name of a variant: it means something else")
        if len(set(self.placements)) < len(self.placements):
            raise _refused("a placement is named twice")
        if self.kind != "split" and len(names) != 2:
            raise _refused(f"an experiment of kind {self.kind} takes exactly two variants")
        if self.kind == "interleave" and self.variants[0].weight != self.variants[1].weight:
            raise _refused("interleaving gives both variants the same weight")
        if self.kind == "canary" and (self.variants[0].model or not self.variants[1].model):
            raise _refused("the first variant of a canary has the champion, the second a model")
        if any(variant.model == CHAMPION for variant in self.variants):
            raise _refused("a variant without a model has the champion")
        if self.kind != "canary" and self.guard.model_dump() != Guard().model_dump():
            raise _refused("only a canary has a guard")
        if self.ends_at is not None and self.ends_at <= (self.starts_at or 0):
            raise _refused("it ends before it starts")
        return self

    def design(self) -> ExperimentDesign:
        """The design as records carry it. One that runs has not been stopped for a reason."""
        told = {} if self.state == "stopped" else {"stopped_because": ""}
        return ExperimentDesign.model_validate(self.model_dump() | told)


def _refused(words: str) -> PydanticCustomError:
    return PydanticCustomError("invalid_design", "{words}", {"words": words})
