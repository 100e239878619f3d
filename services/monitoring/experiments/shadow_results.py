"""Results of a shadow: how its lists compare with those that were shown."""

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import BaseModel, Field

from services.monitoring.experiments.makers import Latency, Makers, latency


class ShadowResult(BaseModel):
    """A shadow variant's slates, and how they compare with those that were shown.

    `overlap` is the mean share of a shown list's items that stand in the shadow's, of the newest
    pairs. Of the items that were clicked after shown lists, `clicked_in_shadow` stand there, too.
    """

    variant: str
    slates: int
    models: dict[str, int] = Field(description="slates by model version; empty for no model")
    substituted: dict[str, int] = Field(description="slates that its model did not make, by reason")
    latency_ms: Latency
    compared: int
    overlap: float | None
    clicked: int
    clicked_in_shadow: int


@dataclass(frozen=True, slots=True)
class ShadowPair:
    """The items of a shown list and of its shadow."""

    shown: frozenset[str]
    shadow: frozenset[str]


def shadow_result(
    variant: str, makers: Makers, pairs: Iterable[ShadowPair], clicked: Iterable[bool]
) -> ShadowResult:
    """The result of a shadow.

    Args:
        variant: Its name.
        makers: The makers of its slates.
        pairs: Shown lists with items, each with its shadow.
        clicked: For each item that was clicked in a shown list, whether it stands in the shadow.
    """
    shares = [len(pair.shown & pair.shadow) / len(pair.shown) for pair in pairs]
    hits = list(clicked)
    return ShadowResult(
        variant=variant,
        slates=sum(makers.models.values()) + sum(makers.substituted.values()),
        models=dict(makers.models),
        substituted=dict(makers.substituted),
        latency_ms=latency(makers.latencies),
        compared=len(shares),
        overlap=sum(shares) / len(shares) if shares else None,
        clicked=len(hits),
        clicked_in_shadow=sum(hits),
    )
