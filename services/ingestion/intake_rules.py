"""Rules that messages are read by, from the settings, the mapping file and the tracking plan."""

from dataclasses import dataclass, field

from services.ingestion.budgets import Budgets
from services.ingestion.event_names import EventNames, read_mapping
from services.ingestion.settings import IngestionSettings
from services.ingestion.tracking_plan import TrackingPlan, read_plan
from services.ingestion.watched_files import WatchedFile
from slipstream.chassis.access.keys import KeyRing
from slipstream.chassis.access.page_tokens import PageTokens
from slipstream.contracts.times import HOUR_MS
from slipstream.ingress.privacy import Privacy


@dataclass(slots=True)
class IntakeRules:
    """The rules of the moment. Names and plan are replaced when their files have changed.

    `max_late_ms` is the age on arrival up to which an event is taken that is not imported; None
    allows any age. `page_tokens` verifies what pages say about their users.
    """

    names: EventNames = field(default_factory=EventNames)
    plan: TrackingPlan | None = None
    privacy: Privacy = field(default_factory=Privacy)
    refuse_bots: bool = True
    max_late_ms: int | None = 24 * HOUR_MS
    budgets: Budgets = field(default_factory=Budgets)
    files: list[WatchedFile] = field(default_factory=list)
    page_tokens: PageTokens = field(default_factory=lambda: PageTokens(KeyRing()))

    @classmethod
    def of(cls, settings: IngestionSettings) -> "IntakeRules":
        """The rules of these settings. Raises ValueError, with the reason, for a wrong file."""
        section = settings.ingestion
        rules = cls(
            privacy=settings.privacy.policy(),
            refuse_bots=section.bot_filter,
            max_late_ms=int(section.max_late_hours * HOUR_MS) or None,
            budgets=section.budgets(),
        )
        if section.event_mapping:
            rules.files.append(WatchedFile(section.event_mapping, rules._take_mapping))
        if section.tracking_plan:
            rules.files.append(WatchedFile(section.tracking_plan, rules._take_plan))
        return rules

    def _take_mapping(self, data: bytes) -> None:
        self.names = read_mapping(data)

    def _take_plan(self, data: bytes) -> None:
        self.plan = read_plan(data)
