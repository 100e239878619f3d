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
    Variant,
)


class VariantBody(Variant, extra="forbid"):
    """A variant."""


class DesignBody(ExperimentDesign, extra="forbid"):
    """The visitors, the variants and the time of an experiment."""

    variants: Annotated[  # type: ignore[assignment]
        list[VariantBody], Field(min_length=2, max_length=MOST_VARIANTS)
    ]

    @model_validator(mode="after")
    def _is_of_one_piece(self) -> Self:
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise _refused("two variants have the same name")
        if taken := {HOLDOUT, INTERLEAVED, NO_EXPERIMENT} & set(names):
            raise _refused(f"{taken.pop()} is no name of a variant: it means something else")
        if len(set(self.placements)) < len(self.placements):
            raise _refused("a placement is named twice")
        if self.kind == "interleave":
            if len(names) != 2:
                raise _refused("interleaving takes exactly two variants")
            if self.variants[0].weight != self.variants[1].weight:
                raise _refused("interleaving gives both variants the same weight")
        if self.ends_at is not None and self.ends_at <= (self.starts_at or 0):
            raise _refused("it ends before it starts")
        return self

    def design(self) -> ExperimentDesign:
        """The design as records carry it."""
        return ExperimentDesign.model_validate(self.model_dump())


def _refused(words: str) -> PydanticCustomError:
    return PydanticCustomError("invalid_design", "{words}", {"words": words})
