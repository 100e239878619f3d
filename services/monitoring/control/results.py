"""Results of an experiment: metrics of its variants, shares, and comparisons of shadows.

They are of all visitors of the newest design, by assignment, and may be looked at at any time. A
shadow's lists are compared with those that were shown. Pure functions.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import inf, isfinite
from typing import Final, NamedTuple

from pydantic import BaseModel, Field

from services.monitoring.control.guards import Judgement, Latency, Makers, latency
from slipstream.contracts.experiments import HOLDOUT, ExperimentDesign
from slipstream.evaluation.experiments.moments import (
    Estimates,
    Moments,
    difference,
    estimate,
)
from slipstream.evaluation.experiments.sequences import share_p_value
from slipstream.evaluation.experiments.verdicts import VerdictName

# Probability that an interval of an experiment's primary metric ever misses the truth.
ALPHA: Final = 0.05
# Probability that an experiment that divides as designed is ever called broken.
SHARE_ALPHA: Final = 0.001


class Metric(NamedTuple):
    """A metric as a sum over visitors, divided by another one.

    Attributes:
        numerator, denominator: Columns of the sums by visitor; no denominator for the visitors.
        past: Column of what visitors did before; empty for none.
        most: The greatest value.
        unit: What the numerator counts of one unit of the metric.
        is_share: Whether a guardrail's bound is points of a share, not relative.
    """

    numerator: str
    denominator: str = ""
    past: str = ""
    most: float = inf
    unit: float = 1
    is_share: bool = False


METRICS: Final[Mapping[str, Metric]] = {
    "click_through": Metric("clicked_slates", "slates", "before_clicked", most=1.0),
    "conversion": Metric("converted_slates", "slates", "before_converted", most=1.0),
    "clicks_per_visitor": Metric("clicked_items", past="before_clicked"),
    "purchases_per_visitor": Metric("purchases", past="before_converted"),
    "revenue_per_visitor": Metric("revenue", past="before_converted", unit=1_000),
    "empty": Metric("empty", "slates", most=1.0, is_share=True),
    "failed": Metric("failed", "slates", most=1.0, is_share=True),
    "latency": Metric("latency", "timed", unit=10),
}


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


def shadow_result(
    variant: str, makers: Makers, overlaps: Sequence[float], clicked: Iterable[bool]
) -> ShadowResult:
    """The result of a shadow.

    Args:
        overlaps: For shown lists with items, the share of these that stands in the shadow.
        clicked: For each item that was clicked in a shown list, whether it stands in the shadow.
    """
    hits = list(clicked)
    return ShadowResult(
        variant=variant,
        slates=sum(makers.models.values()) + sum(makers.substituted.values()),
        models=dict(makers.models),
        substituted=dict(makers.substituted),
        latency_ms=latency(makers.latencies),
        compared=len(overlaps),
        overlap=sum(overlaps) / len(overlaps) if overlaps else None,
        clicked=len(hits),
        clicked_in_shadow=sum(hits),
    )


class Estimate(BaseModel):
    """A value and the ends of its confidence sequence; null where there are too few hits for one.

    All looks together miss the truth with a probability of 5 % at most, over all variants.
    """

    value: float | None
    low: float | None = None
    high: float | None = None


class MetricResult(BaseModel):
    """A metric of a variant, and its difference to the control's, which has none."""

    hits: int = Field(description="visitors with a value above 0")
    value: Estimate
    difference: Estimate | None = None
    relative: Estimate | None = Field(None, description="as a share of the control's")
    explained: float | None = Field(
        None, description="share of the variance that visitors' past explains, which is left out"
    )


class VariantResult(BaseModel):
    """A variant's visitors, all of their slates, and metrics.

    The rest is of the slates that monitoring still keeps.
    """

    variant: str
    visitors: int
    slates: int
    metrics: dict[str, MetricResult]
    models: dict[str, int] = Field(description="slates by model version; empty for no model")
    substituted: dict[str, int] = Field(
        description="slates that the champion made for its model, by reason"
    )
    latency_ms: Latency


class VariantVerdict(BaseModel):
    """The verdict on a variant, and the measuring that is left."""

    variant: str
    verdict: VerdictName
    reason: str
    detectable: float | None = Field(
        None, description="relative effect that would show now in four cases of five"
    )
    visitors_left: int | None = Field(
        None, description="visitors until the least effect of interest would show so"
    )
    days_left: float | None = Field(None, description="the same in days, at the rate until now")


class ShareCheck(BaseModel):
    """The check whether visitors divide as the design says.

    `p_value` holds at all looks together. Below .001 the experiment is broken.
    """

    expected: dict[str, float]
    visitors: dict[str, int]
    p_value: float
    is_broken: bool
    in_two_variants: int = Field(description="visitors who were seen in more than one variant")
    excluded: bool = Field(
        description="whether they are left out, which biases nothing where all shares are equal"
    )


class EarlierDesign(BaseModel):
    """An earlier design of an experiment, which assigned otherwise."""

    revision: int
    from_: int | None = Field(serialization_alias="from")
    until: int | None
    visitors: int


class ExperimentResults(BaseModel):
    """The results of an experiment, of its newest design and its whole duration.

    Variants are compared with the control.
    """

    experiment: str
    revision: int = Field(description="the one that changed the assignment last")
    control: str
    metric: str
    least_effect: float
    from_: int | None = Field(serialization_alias="from")
    until: int | None
    variants: list[VariantResult]
    verdicts: list[VariantVerdict]
    shares: ShareCheck
    shadow: ShadowResult | None = None
    guard: Judgement | None = Field(None, description="of a canary, in its guard's window")
    earlier: list[EarlierDesign] = Field(default_factory=list)


class VariantSums(NamedTuple):
    """The sums of a variant: visitors, slates, and the moments of each metric."""

    visitors: int
    slates: int
    moments: Mapping[str, Moments]


class Division(NamedTuple):
    """How visitors divide: by variant, how many are in two, and whether these are left out."""

    visitors: Mapping[str, int]
    in_two_variants: int
    excluded: bool


def shown_variants(design: ExperimentDesign) -> list[str]:
    """The names of variants that slates carry; the first one is compared with."""
    names = [variant.name for variant in design.variants]
    return [names[0], HOLDOUT] if design.kind == "shadow" else [*names, HOLDOUT]


def expected_shares(design: ExperimentDesign) -> dict[str, float]:
    """The share of the visitors that each variant should have, above 0."""
    if design.kind == "shadow":
        shares = {design.variants[0].name: design.traffic}
    else:
        total = sum(variant.weight for variant in design.variants)
        shares = {it.name: design.traffic * it.weight / total for it in design.variants}
    shares[HOLDOUT] = 1 - design.traffic
    return {name: share for name, share in shares.items() if share > 0}


def chosen_metrics(design: ExperimentDesign) -> list[str]:
    """The metrics of an experiment, the primary one first; unknown ones are left out."""
    guarded = [guardrail.metric for guardrail in design.guardrails]
    chosen = dict.fromkeys([design.metric, "click_through", "conversion", *guarded])
    return [name for name in chosen if name in METRICS]


def share_check(design: ExperimentDesign, division: Division) -> ShareCheck:
    """The check of how visitors divide."""
    expected = expected_shares(design)
    counts = {name: division.visitors.get(name, 0) for name in expected}
    p_value = share_p_value(list(counts.values()), list(expected.values()))
    return ShareCheck(
        expected=expected,
        visitors=counts,
        p_value=p_value,
        is_broken=p_value < SHARE_ALPHA,
        in_two_variants=division.in_two_variants,
        excluded=division.excluded,
    )


def alpha_of(design: ExperimentDesign) -> float:
    """The level of each comparison: C. E. Bonferroni's, over all variants but the control."""
    return ALPHA / max(1, len(expected_shares(design)) - 1)


def variant_results(
    design: ExperimentDesign,
    sums: Mapping[str, VariantSums],
    makers: Mapping[str, Makers],
    division: Division,
) -> list[VariantResult]:
    """The results of all variants, each compared with the first."""
    names, alpha = shown_variants(design), alpha_of(design)
    control = sums.get(names[0])
    results = []
    for name in names:
        own, made = sums.get(name), makers.get(name, Makers())
        against = None if name == names[0] else control
        results.append(
            VariantResult(
                variant=name,
                visitors=division.visitors.get(name, 0),
                slates=own.slates if own else 0,
                metrics={
                    metric: _metric_result(metric, own, against, alpha, name == names[0])
                    for metric in chosen_metrics(design)
                },
                models=dict(made.models),
                substituted=dict(made.substituted),
                latency_ms=latency(made.latencies),
            )
        )
    return results


def _metric_result(
    name: str,
    own: VariantSums | None,
    control: VariantSums | None,
    alpha: float,
    is_control: bool,
) -> MetricResult:
    metric = METRICS[name]
    if own is None:
        nothing = Estimate(value=None)
        return MetricResult(
            hits=0,
            value=nothing,
            difference=None if is_control else nothing,
            relative=None if is_control else nothing,
        )
    moments = own.moments[name]
    value = estimate(moments, alpha, most=metric.most * metric.unit)
    result = MetricResult(hits=int(moments.hits), value=_estimate(value, metric.unit))
    if is_control:
        return result
    if control is None:
        return result.model_copy(
            update={"difference": Estimate(value=None), "relative": Estimate(value=None)}
        )
    gap = difference(moments, control.moments[name], alpha, most=metric.most * metric.unit)
    return result.model_copy(
        update={
            "difference": _estimate(gap.absolute, metric.unit),
            "relative": _estimate(gap.relative),
            "explained": _number(gap.explained) if metric.past else None,
        }
    )


def _number(value: object) -> float | None:
    number = float(value)  # type: ignore[arg-type]
    return number if isfinite(number) else None


def _estimate(found: Estimates, unit: float = 1) -> Estimate:
    value, low, high = (_number(each / unit) for each in found)
    return Estimate(value=value, low=low, high=high)
