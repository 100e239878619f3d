"""The content of a batch of records, as monitoring keeps it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.monitoring.attribution import Response, ShownSlate
from slipstream.broker.batch import Message
from slipstream.contracts.events import (
    CatalogRecord,
    ErasedVisitors,
    FeatureUpdate,
    Interaction,
    ModelEvent,
)
from slipstream.contracts.slates import RecordedSlate
from slipstream.contracts.topics import FEATURE_UPDATES, INTERACTIONS
from slipstream.contracts.vocabulary import SHADOW, SHOWN


@dataclass(frozen=True, slots=True)
class Watermark:
    """The progress of a topic: its newest event time, and when its producer last received an event.

    Both are in ms.
    """

    event_time: int
    heard_at: int


@dataclass(slots=True)
class Arrivals:
    """The content of one batch. `features` are those of slates, by recommendation id."""

    slates: list[ShownSlate] = field(default_factory=list)
    shadows: list[RecordedSlate] = field(default_factory=list)
    features: dict[str, Mapping[str, float]] = field(default_factory=dict)
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

    Slates that nobody saw are left out, but for shadows. So are slates older than `oldest_ms`,
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
                brought.features[record.recommendation_id] = record.features
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
