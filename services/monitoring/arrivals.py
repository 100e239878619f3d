"""What a batch of records brings, sorted by kind, with shadows compared with what was shown."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

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
from slipstream.contracts.slates import RecordedSlate
from slipstream.contracts.topics import FEATURE_UPDATES, INTERACTIONS, RECOMMENDATIONS
from slipstream.contracts.vocabulary import SHADOW, SHOWN

# Lists in experiments that are remembered until their shadows come, which is soon.
_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Watermark:
    """The progress of a topic: its newest event time, and when its producer last received an event.

    Both are in ms.
    """

    event_time: int
    heard_at: int


class Shadow(NamedTuple):
    """A shadow, and the share of the shown list's items that stand in it.

    That is None where the list has none, or was not read shortly before. A shadow follows its list
    in the same partition.
    """

    slate: RecordedSlate
    overlap: float | None


@dataclass(slots=True)
class Arrivals:
    """The content of one batch."""

    answers: list[Answer] = field(default_factory=list)
    shadows: list[Shadow] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
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


class ArrivalSorter:
    """Sorts batches, and remembers lists that may have shadows. One thread uses it."""

    def __init__(self) -> None:
        self._shown: dict[str, frozenset[str]] = {}

    def sort(self, messages: Iterable[Message[Any]], oldest_ms: int) -> Arrivals:
        """Sort a batch by kind of record.

        Unseen slates are left out, except shadows. So are slates older than `oldest_ms`: their sums
        may be forgotten already.
        """
        brought = Arrivals()
        for message in messages:
            record = message.record
            if isinstance(record, Interaction):
                brought.mark(INTERACTIONS.name, record.timestamp, record.received_at)
            elif isinstance(record, RecordedSlate):
                if record.purpose == SHOWN and record.timestamp >= oldest_ms:
                    brought.answers.append(Answer.of(record, message.source.name, message.offset))
                    brought.mark(RECOMMENDATIONS.name, record.timestamp, record.timestamp)
                    self._remember(record)
                elif record.purpose == SHADOW and record.timestamp >= oldest_ms:
                    brought.shadows.append(Shadow(record, self._overlap(record)))
            elif isinstance(record, FeatureUpdate):
                brought.mark(FEATURE_UPDATES.name, record.watermark, record.updated_at)
            elif isinstance(record, ModelEvent):
                brought.model_events.append(record)
            elif isinstance(record, ErasedVisitors):
                brought.erased_visitors.append(record)
            elif isinstance(record, CatalogRecord) and record.deleted and record.erasure_id:
                brought.erasure_requests.append((record, message.request_id))
        return brought

    def _remember(self, slate: RecordedSlate) -> None:
        if slate.experiment:
            self._shown[slate.recommendation_id] = frozenset(it.item_id for it in slate.items)
            if len(self._shown) > _REMEMBERED:
                del self._shown[next(iter(self._shown))]

    def _overlap(self, shadow: RecordedSlate) -> float | None:
        shown = self._shown.get(shadow.shadow_of)
        if not shown:
            return None
        return len(shown.intersection(it.item_id for it in shadow.items)) / len(shown)
