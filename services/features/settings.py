"""Settings of features."""

from pydantic import Field

from slipstream.chassis.settings import Section
from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.features.views import AFFINITY_ATTRIBUTES
from slipstream.ingress.settings import IngressSettings
from slipstream.stores.online import Retention


class FeaturesSection(Section):
    """What is kept for how long, and how the lake is written."""

    visitor_ttl_days: float = Field(
        90, gt=0, description="a visitor without an event for so long is forgotten by Redis"
    )
    item_ttl_days: float = Field(
        180, gt=0, description="an item without an event for so long is forgotten by Redis"
    )
    trending_half_life_hours: float = Field(
        24, gt=0, description="after so long an event counts half in trending; a change begins anew"
    )
    max_ahead_hours: float = Field(
        24,
        ge=0,
        description="an event so far ahead of its arrival has a wrong clock and goes to the dead letters",
    )
    max_late_hours: float = Field(
        24,
        ge=0,
        description="an event so far behind its arrival goes to the dead letters, unless it was imported",
    )
    repeat_lookback_hours: float = Field(
        72,
        gt=0,
        description="an event that may be a repeat is looked for in the lake among those that came so long before",
    )
    affinity_attributes: str = Field(
        ",".join(AFFINITY_ATTRIBUTES),
        description="attributes of items that affinities are computed for, separated by commas",
    )
    max_poll_records: int = Field(
        12_000,
        ge=1,
        description="most records folded at once: of a backlog, the more at once, the fewer writes",
    )
    feature_updates_per_s: int = Field(
        200, ge=0, description="most feature updates announced in a second; a sample beyond it"
    )
    lake_flush_s: float = Field(
        2.0,
        gt=0,
        description="rows wait at most so long before they are written; offsets are committed after",
    )
    lake_flush_rows: int = Field(
        20_000, ge=1, description="rows are written at once when there are so many"
    )
    lake_compact_every_s: float = Field(
        60.0, gt=0, description="how often tables are searched for small files to merge"
    )
    lake_small_files: int = Field(
        16, ge=2, description="so many small files of a partition are merged"
    )
    lake_vacuum_every_hours: float = Field(
        24.0, gt=0, description="how often files that no kept version needs are deleted"
    )
    lake_retention_days: float = Field(
        30, gt=0, description="how long every version of a table can be read"
    )
    lake_erasure_hours: float = Field(
        48,
        ge=1,
        description="versions from before an erasure can be read for so long; the next vacuum deletes the files of erased rows",
    )
    durable_after_s: float = Field(
        2.0,
        ge=0,
        description="offsets are committed so long after their effect: a crashed Redis (appendfsync everysec) loses less",
    )


class FeaturesSettings(IngressSettings):
    """Everything that features reads from the environment."""

    features: FeaturesSection = FeaturesSection()

    def attributes(self) -> tuple[str, ...]:
        """The attributes of items that affinities are computed for."""
        names = (name.strip() for name in self.features.affinity_attributes.split(","))
        return tuple(dict.fromkeys(name for name in names if name))

    def retention(self) -> Retention:
        """How long the online store keeps what."""
        return Retention(
            int(self.features.visitor_ttl_days * DAY_MS),
            int(self.features.item_ttl_days * DAY_MS),
            self.features.trending_half_life_hours * HOUR_MS,
        )
