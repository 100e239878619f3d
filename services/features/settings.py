"""Settings of features."""

from pydantic import Field

from slipstream.chassis.settings import Section, ServiceSettings, listed
from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.features.views import AFFINITY_ATTRIBUTES
from slipstream.stores.online import Retention


class FeaturesSection(Section):
    """Limits on what is taken from the stream, times that it is kept, and writing of the lake."""

    visitor_ttl_days: float = Field(
        90, gt=0, description="time after a visitor's last event at which Redis drops the state"
    )
    item_ttl_days: float = Field(
        180, gt=0, description="time after an item's last event at which Redis drops the state"
    )
    user_ttl_days: float = Field(
        730,
        gt=0,
        description="time after a user's last traits at which Redis drops them; pages may then "
        "change and link the user, as before a server named it",
    )
    trending_half_life_hours: float = Field(
        24,
        gt=0,
        description="half-life of an event's weight in trending; a change empties the list",
    )
    max_ahead_hours: float = Field(
        24,
        ge=0,
        description="most hours that an event may lie ahead of its arrival; beyond, its clock is "
        "wrong and it goes to the dead letters",
    )
    max_late_hours: float = Field(
        24,
        ge=0,
        description="most hours that an event may lie behind its arrival; beyond, it goes to the "
        "dead letters unless it was imported",
    )
    repeat_lookback_hours: float = Field(
        72,
        gt=0,
        description="hours before its arrival in which the lake is searched for the first copy of "
        "an event that may be a repeat",
    )
    affinity_attributes: str = Field(
        ",".join(AFFINITY_ATTRIBUTES),
        description="attributes of items that affinities are computed for, separated by commas; "
        "items without `category` count by their `categories`",
    )
    max_poll_records: int = Field(
        12_000,
        ge=1,
        description="most records folded at once; with a backlog, larger batches need fewer writes",
    )
    feature_updates_per_s: int = Field(
        200,
        ge=0,
        description="most feature updates sent per second; more changes are sampled at random",
    )
    lake_flush_s: float = Field(
        2.0,
        gt=0,
        description="longest that rows wait before they are written to the lake; offsets are "
        "committed after that",
    )
    lake_flush_rows: int = Field(
        20_000, ge=1, description="number of waiting rows that are written without further delay"
    )
    lake_flush_bytes: int = Field(
        33_554_432,
        ge=1_048_576,
        description="bytes of waiting rows that are written without further delay; with four times "
        "as many, reading pauses",
    )
    lake_compact_every_s: float = Field(
        60.0, gt=0, description="interval at which tables are searched for small files to merge"
    )
    lake_small_files: int = Field(
        16, ge=2, description="number of small files in a partition from which on they are merged"
    )
    lake_vacuum_every_hours: float = Field(
        24.0, gt=0, description="interval at which files that no kept version needs are deleted"
    )
    lake_retention_days: float = Field(
        30, gt=0, description="time for which every version of a table can be read"
    )
    lake_circumstances_days: float = Field(
        30,
        gt=0,
        description="days for which the lake keeps the circumstances of slates, with which an "
        "answer can be made again; then they are emptied once in `lake_vacuum_every_hours`",
    )
    erase_every_s: float = Field(
        15.0, gt=0, description="interval at which the lake is searched for pending erasures"
    )
    lake_erasure_hours: float = Field(
        48,
        gt=0,
        description="time for which versions from before an erasure can be read; the next vacuum "
        "then deletes the files of erased rows. Below 1, which is for tests, no older version "
        "can be read then",
    )
    durable_after_s: float = Field(
        2.0,
        ge=0,
        description="least delay from a row in the lake to the commit of its offset, which then "
        "waits until Redis confirms that its disk or a replica has the effect (docs/adr/0023)",
    )


class FeaturesSettings(ServiceSettings):
    """Settings that features reads from the environment."""

    features: FeaturesSection = FeaturesSection()

    def attributes(self) -> tuple[str, ...]:
        """The attributes of items that affinities are computed for."""
        return tuple(dict.fromkeys(listed(self.features.affinity_attributes)))

    def retention(self) -> Retention:
        """Times for which the online store keeps states, and the half-life of trending."""
        return Retention(
            int(self.features.visitor_ttl_days * DAY_MS),
            int(self.features.item_ttl_days * DAY_MS),
            self.features.trending_half_life_hours * HOUR_MS,
            int(self.features.user_ttl_days * DAY_MS),
        )
