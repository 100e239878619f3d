"""Click-through and conversion of slates: rates with intervals, by version, step and time.

A slate is one trial: it was clicked when at least one of its items was. Item rates count each item
of a slate once. Their intervals take items as independent, which items of one slate are not, so
compare versions by slate.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Final, NamedTuple, TypeVar

from pydantic import BaseModel, Field

_Z95 = 1.959963984540054

K = TypeVar("K")

# Length of the time that lists are counted by (ms).
BUCKET_MS: Final = 300_000


class Bucket(NamedTuple):
    """The key of a count: slates of the same five minutes, model version and answering step."""

    start: int
    model_version: str
    answered_by: str


@dataclass(slots=True)
class Counts:
    """Counts of slates and their outcomes. `shown` have items; only these can be clicked."""

    slates: int = 0
    shown: int = 0
    items: int = 0
    clicked_slates: int = 0
    clicked_items: int = 0
    converted_slates: int = 0
    converted_items: int = 0

    def add(self, other: "Counts", sign: int = 1) -> None:
        """Add other counts to these, or take them away with the sign -1."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + sign * getattr(other, name))


class RateInterval(BaseModel):
    """A share with its 95 % Wilson interval, as fractions; `value` is null without any trial."""

    value: float | None
    low: float
    high: float
    count: int
    of: int


class QualityRow(BaseModel):
    """The counts and rates of a group of slates. `shown` are slates with at least one item."""

    model_version: str | None = Field(
        None, description="null for all, '' for slates that no model answered"
    )
    answered_by: str | None = Field(None, description="null for all")
    start: int | None = Field(None, description="start of the step in a series, milliseconds")
    slates: int
    shown: int
    items: int
    click_through: RateInterval = Field(description="slates with a click, of slates shown")
    conversion: RateInterval = Field(description="slates with a cart or purchase, of slates shown")
    item_click_through: RateInterval
    item_conversion: RateInterval


class QualityReport(BaseModel):
    """The report on slates answered in `from <= t < until`.

    They are counted from the lake. The newest `window_ms` of them may still be clicked, so their
    rates still rise; and purchases count for the list that led to them, for a month.
    """

    from_: int = Field(serialization_alias="from")
    until: int
    window_ms: int
    total: QualityRow
    by_model: list[QualityRow]
    by_answered_by: list[QualityRow]
    series: list[QualityRow] = Field(
        description="by step and model version, oldest first; steps without slates are left out"
    )


def wilson(count: int, of: int, z: float = _Z95) -> RateInterval:
    """The interval of E. B. Wilson, “Probable inference, the law of succession, and statistical
    inference”, JASA 1927, as wide as `z` standard deviations.

    Without any trial there is no value, and the interval is (0, 1).
    """
    if of == 0:
        return RateInterval(value=None, low=0.0, high=1.0, count=count, of=of)
    share = count / of
    spread = z * sqrt(share * (1 - share) / of + z**2 / (4 * of**2))
    middle, scale = share + z**2 / (2 * of), 1 + z**2 / of
    low = 0.0 if count == 0 else (middle - spread) / scale
    high = 1.0 if count == of else (middle + spread) / scale
    return RateInterval(value=share, low=low, high=high, count=count, of=of)


def rate(count: int, of: int) -> RateInterval:
    """The share of slates or items with an outcome. An erasure may have left fewer of these."""
    return wilson(min(count, of), of)


def row(
    counts: Counts,
    *,
    model_version: str | None = None,
    answered_by: str | None = None,
    start: int | None = None,
) -> QualityRow:
    return QualityRow(
        model_version=model_version,
        answered_by=answered_by,
        start=start,
        slates=counts.slates,
        shown=counts.shown,
        items=counts.items,
        click_through=rate(counts.clicked_slates, counts.shown),
        conversion=rate(counts.converted_slates, counts.shown),
        item_click_through=rate(counts.clicked_items, counts.items),
        item_conversion=rate(counts.converted_items, counts.items),
    )


def grouped(counts: Mapping[Bucket, Counts], key: Callable[[Bucket], K]) -> dict[K, Counts]:
    """Counts added up over the buckets of each key."""
    groups: dict[K, Counts] = {}
    for bucket, each in counts.items():
        groups.setdefault(key(bucket), Counts()).add(each)
    return groups


def report(
    counts: Mapping[Bucket, Counts], since: int, until: int, step_ms: int, window_ms: int
) -> QualityReport:
    """The report over all of `counts`.

    Args:
        since: Start of the period, in ms.
        until: End of the period, in ms.
        step_ms: Length of a bucket of the series.
    """
    by_model = grouped(counts, lambda bucket: bucket.model_version)
    by_step = grouped(counts, lambda bucket: bucket.answered_by)
    series = grouped(
        counts, lambda bucket: (bucket.start - bucket.start % step_ms, bucket.model_version)
    )
    return QualityReport(
        from_=since,
        until=until,
        window_ms=window_ms,
        total=row(total(counts)),
        by_model=[
            row(group, model_version=version)
            for version, group in sorted(by_model.items(), reverse=True)
        ],
        by_answered_by=[
            row(group, answered_by=answered_by) for answered_by, group in sorted(by_step.items())
        ],
        series=[
            row(group, start=start, model_version=version)
            for (start, version), group in sorted(series.items())
        ],
    )


def total(counts: Mapping[Bucket, Counts]) -> Counts:
    return grouped(counts, lambda _: None).get(None, Counts())
