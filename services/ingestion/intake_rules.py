"""By which rules messages are read: what the settings, the mapping file and the tracking plan say."""

from dataclasses import dataclass, field

from services.ingestion.event_names import EventNames, read_mapping
from services.ingestion.privacy import Privacy
from services.ingestion.settings import IngestionSection
from services.ingestion.tracking_plan import TrackingPlan, read_plan
from services.ingestion.watched_files import WatchedFile
from slipstream.contracts.times import HOUR_MS


@dataclass(slots=True)
class IntakeRules:
    """The rules of the moment; names and plan are replaced when their files have changed.

    `max_late_ms`: how much older than its arrival an event may be that is not imported; None for
    any age.
    """

    names: EventNames = field(default_factory=EventNames)
    plan: TrackingPlan | None = None
    privacy: Privacy = field(default_factory=Privacy)
    refuse_bots: bool = True
    max_late_ms: int | None = 24 * HOUR_MS
    files: list[WatchedFile] = field(default_factory=list)

    @classmethod
    def of(cls, settings: IngestionSection) -> "IntakeRules":
        """Raises ValueError for a file that is missing or wrong, with its name and what is wrong."""
        rules = cls(
            privacy=settings.privacy(),
            refuse_bots=settings.bot_filter,
            max_late_ms=int(settings.max_late_hours * HOUR_MS) or None,
        )
        if settings.event_mapping:
            rules.files.append(WatchedFile(settings.event_mapping, rules._take_mapping))
        if settings.tracking_plan:
            rules.files.append(WatchedFile(settings.tracking_plan, rules._take_plan))
        return rules

    def _take_mapping(self, data: bytes) -> None:
        self.names = read_mapping(data)

    def _take_plan(self, data: bytes) -> None:
        self.plan = read_plan(data)
