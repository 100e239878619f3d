"""The attribution of interactions to slates, and the records that it is made of. Pure functions.

The result depends on the set of slates and interactions alone, not on their order or repetition.
Rules and reasons: docs/adr/0008-attribution-and-drift.md.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from services.monitoring.answers import Answer
from services.monitoring.sampling import Sample
from slipstream.broker.records import Message
from slipstream.contracts.events import (
    CatalogRecord,
    ErasedVisitors,
    FeatureUpdate,
    Interaction,
    ModelEvent,
)
from slipstream.contracts.page_visitors import page_visitor
from slipstream.contracts.slates import RecordedSlate
from slipstream.contracts.topics import FEATURE_UPDATES, INTERACTIONS, RECOMMENDATIONS
from slipstream.contracts.vocabulary import CONVERSIONS, SHADOW, SHOWN, WITHOUT_SIGNAL

BUCKET_MS = 300_000


class ShownSlate(NamedTuple):
    """A slate, reduced to the needs of attribution. Times are ms of event time.

    `variant` is empty outside an experiment, and `substituted` says why the champion made it for a
    variant's model. Older slates lack the fields of experiments and the latency.
    """

    recommendation_id: str
    user_id: str
    timestamp: int
    answered_by: str
    model_version: str
    items: frozenset[str]
    experiment: str = ""
    variant: str = ""
    substituted: str = ""
    latency_ms: float = 0.0
    placement: str = ""

    @classmethod
    def of(cls, slate: RecordedSlate) -> "ShownSlate":
        return cls(
            slate.recommendation_id,
            slate.user_id,
            slate.timestamp,
            slate.answered_by,
            slate.model_version or "",
            frozenset(item.item_id for item in slate.items),
            slate.experiment,
            slate.variant if slate.experiment else "",
            slate.substituted,
            slate.latency_ms,
            slate.placement,
        )


@dataclass(frozen=True, slots=True)
class Response:
    """An interaction with an item, reduced to the needs of attribution: a conversion or a click.

    `named` is the slate that the interaction names, if any.
    """

    event_id: str
    user_id: str
    item_id: str
    timestamp: int
    converted: bool
    named: str | None

    @classmethod
    def of(cls, interaction: Interaction) -> "Response | None":
        """The response in an interaction; None without an item, or for a type without signal."""
        if interaction.item_id is None or interaction.event_type in WITHOUT_SIGNAL:
            return None
        return cls(
            interaction.event_id,
            # Slates are requested with the page's anonymous id.
            page_visitor(interaction.user_id),
            interaction.item_id,
            interaction.timestamp,
            interaction.event_type in CONVERSIONS,
            interaction.recommendation_id,
        )


class Outcome(NamedTuple):
    """The numbers of a slate's items that were clicked and converted, each item once."""

    clicked: int = 0
    converted: int = 0


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


def attribute(
    response: Response, slates: Iterable[ShownSlate], window_ms: int
) -> ShownSlate | None:
    """The slate that led to a response, or None.

    It is the slate that the response names, else the visitor's newest one of the last `window_ms`.
    Either must contain the item. Of two equally new ones the greater id counts.
    """
    if response.named is not None:
        candidates = [slate for slate in slates if slate.recommendation_id == response.named]
    else:
        candidates = [
            slate
            for slate in slates
            if slate.user_id == response.user_id
            and 0 <= response.timestamp - slate.timestamp <= window_ms
        ]
    containing = (slate for slate in candidates if response.item_id in slate.items)
    return max(
        containing, key=lambda slate: (slate.timestamp, slate.recommendation_id), default=None
    )


def join(
    slates: Mapping[str, ShownSlate], responses: Iterable[Response], window_ms: int
) -> dict[str, str | None]:
    """The slate that led to each response: event id → recommendation id, or None."""
    by_visitor: dict[str, list[ShownSlate]] = {}
    for slate in slates.values():
        by_visitor.setdefault(slate.user_id, []).append(slate)
    targets: dict[str, str | None] = {}
    for response in responses:
        if response.named is None:
            candidates: Sequence[ShownSlate] = by_visitor.get(response.user_id, ())
        else:
            candidates = [slates[response.named]] if response.named in slates else ()
        found = attribute(response, candidates, window_ms)
        targets[response.event_id] = found.recommendation_id if found else None
    return targets


def outcome(responses: Iterable[tuple[str, bool]]) -> Outcome:
    """The outcome of one slate, from the (item, converted) pairs attributed to it."""
    clicked: set[str] = set()
    converted: set[str] = set()
    for item_id, is_conversion in responses:
        (converted if is_conversion else clicked).add(item_id)
    return Outcome(len(clicked), len(converted))


def bucket_of(slate: ShownSlate) -> Bucket:
    return Bucket(
        slate.timestamp - slate.timestamp % BUCKET_MS, slate.model_version, slate.answered_by
    )


@dataclass(slots=True)
class Tally:
    """Counts by bucket, or the change of them."""

    buckets: dict[Bucket, Counts] = field(default_factory=dict)

    def add_slate(self, slate: ShownSlate) -> None:
        bucket = bucket_of(slate)
        counts = self.buckets.get(bucket)
        if counts is None:
            counts = self.buckets[bucket] = Counts()
        counts.slates += 1
        counts.shown += bool(slate.items)
        counts.items += len(slate.items)

    def add_change(self, slate: ShownSlate, before: Outcome, after: Outcome) -> None:
        """Count that the slate's outcome went from `before` to `after`."""
        counts = self.buckets.setdefault(bucket_of(slate), Counts())
        counts.add(
            Counts(
                clicked_slates=int(after.clicked > 0) - int(before.clicked > 0),
                clicked_items=after.clicked - before.clicked,
                converted_slates=int(after.converted > 0) - int(before.converted > 0),
                converted_items=after.converted - before.converted,
            )
        )


@dataclass(frozen=True, slots=True)
class Watermark:
    """The progress of a topic: its newest event time, and when its producer last received an event.

    Both are in ms.
    """

    event_time: int
    heard_at: int


@dataclass(slots=True)
class Arrivals:
    """The content of one batch."""

    slates: list[ShownSlate] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    shadows: list[RecordedSlate] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    responses: list[Response] = field(default_factory=list)
    model_events: list[ModelEvent] = field(default_factory=list)
    watermarks: dict[str, Watermark] = field(default_factory=dict)
    erasure_requests: list[tuple[CatalogRecord, str]] = field(default_factory=list)
    erased_visitors: list[ErasedVisitors] = field(default_factory=list)

    def mark(self, topic: str, event_time: int, heard_at: int) -> None:
        """Advance the watermark of a topic."""
        known = self.watermarks.get(topic, Watermark(0, 0))
        self.watermarks[topic] = Watermark(
            max(known.event_time, event_time), max(known.heard_at, heard_at)
        )


def arrivals(messages: Iterable[Message[Any]], oldest_ms: int) -> Arrivals:
    """Sort a batch by kind of record.

    Unseen slates are left out, except shadows. So are slates older than `oldest_ms`,
    which may be counted and forgotten already, and older interactions that name no slate.
    """
    brought = Arrivals()
    for message in messages:
        record = message.record
        if isinstance(record, Interaction):
            brought.mark(INTERACTIONS.name, record.timestamp, record.received_at)
            response = Response.of(record)
            if response is not None and (
                response.named is not None or response.timestamp >= oldest_ms
            ):
                brought.responses.append(response)
        elif isinstance(record, RecordedSlate):
            if record.purpose == SHOWN and record.timestamp >= oldest_ms:
                brought.slates.append(ShownSlate.of(record))
                brought.answers.append(Answer.of(record, message.source.name, message.offset))
                brought.mark(RECOMMENDATIONS.name, record.timestamp, record.timestamp)
            elif record.purpose == SHADOW and record.timestamp >= oldest_ms:
                brought.shadows.append(record)
        elif isinstance(record, FeatureUpdate):
            brought.mark(FEATURE_UPDATES.name, record.watermark, record.updated_at)
        elif isinstance(record, ModelEvent):
            brought.model_events.append(record)
        elif isinstance(record, ErasedVisitors):
            brought.erased_visitors.append(record)
        elif isinstance(record, CatalogRecord) and record.deleted and record.erasure_id:
            brought.erasure_requests.append((record, message.request_id))
    return brought
