"""The topics, as a table: record, key, partitions, producers, consumers and retention.

Each topic has one producing service, with two exceptions: features, too, writes the dead letters,
and every service tells which keys it took.

Monitoring's console shows the records of every topic but those of keys while somebody watches;
`consumers` leaves that out.

`docs/topics.md` is generated from this table. A test compares `consumers` with the subscriptions of
features and monitoring.
"""

from dataclasses import dataclass
from typing import Final

from slipstream.contracts.access import AccessKey, AccessKeyUse
from slipstream.contracts.events import (
    AlertEvent,
    CatalogRecord,
    DeadLetter,
    ErasedVisitors,
    FeatureUpdate,
    Interaction,
    ModelEvent,
    Record,
    Slate,
)
from slipstream.contracts.experiments import Experiment
from slipstream.contracts.placements import Placement
from slipstream.contracts.times import DAY_MS


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic's promise. Records of one key keep their order.

    `carries` describes the records for `docs/topics.md`; `producers` and `consumers` are services.
    A compacted topic keeps the newest record of each key, for ever where `retention_ms` is None.
    """

    name: str
    record: type[Record]
    key: str
    partitions: int
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    carries: str
    retention_ms: int | None = 7 * DAY_MS
    compacted: bool = False

    def spread(self, partitions: int) -> int:
        """The number of partitions that keys are spread over when the broker has `partitions`.

        A compacted topic never uses partitions that were added to it: the newest record of a key
        would lie in another partition than the one before, which compaction then keeps for ever,
        and nothing would say which of them is newer.
        """
        return min(partitions, self.partitions) if self.compacted else partitions


INTERACTIONS: Final = Topic(
    "interactions.v1", Interaction, "user_id", 12,
    ("ingestion",), ("features", "monitoring"),
    "what visitors did, with the recommendation it came from, if any",
)  # fmt: skip
CATALOG: Final = Topic(
    "catalog.v1", CatalogRecord, "entity:entity_id", 12,
    ("ingestion",), ("features", "serving", "monitoring"),
    "the newest state of each item, and patches of single attributes since", retention_ms=None,
    compacted=True,
)  # fmt: skip
PEOPLE: Final = Topic(
    "people.v1", CatalogRecord, "entity:entity_id", 12,
    ("ingestion",), ("features", "monitoring"),
    "users' traits, links of visitors to users, and erasures", retention_ms=30 * DAY_MS,
    compacted=True,
)  # fmt: skip
ERASED_VISITORS: Final = Topic(
    "erased-visitors.v1", ErasedVisitors, "erasure_id", 3, ("features",), ("monitoring",),
    "the visitors that an erasure removes, for services that keep rows of visitors",
)  # fmt: skip
DEAD_LETTERS: Final = Topic(
    "dead-letters.v1", DeadLetter, "source", 3, ("ingestion", "features"), (),
    "records that could not be taken, and why", retention_ms=30 * DAY_MS,
)  # fmt: skip
FEATURE_UPDATES: Final = Topic(
    "feature-updates.v1", FeatureUpdate, "entity_id", 12, ("features",), ("monitoring",),
    "what changed for an entity, and the watermark", retention_ms=DAY_MS,
)  # fmt: skip
RECOMMENDATIONS: Final = Topic(
    "recommendations.v1", Slate, "user_id", 12, ("serving",), ("monitoring", "features"),
    "every slate that was answered",
)  # fmt: skip
MODEL_EVENTS: Final = Topic(
    "model-events.v1", ModelEvent, "model", 1, ("training",), ("serving", "monitoring"),
    "versions registered, promoted, refused, rolled back; the canary", retention_ms=365 * DAY_MS,
)  # fmt: skip
ALERTS: Final = Topic(
    "alerts.v1", AlertEvent, "rule", 1, ("monitoring",), ("training",),
    "alerts opened and closed, with evidence", retention_ms=30 * DAY_MS,
)  # fmt: skip
ACCESS_KEYS: Final = Topic(
    "access-keys.v1", AccessKey, "digest", 1, ("monitoring",),
    ("ingestion", "features", "training", "serving", "monitoring"),
    "the digest of each access key, and what the key grants", retention_ms=None, compacted=True,
)  # fmt: skip
ACCESS_KEY_USES: Final = Topic(
    "access-key-uses.v1", AccessKeyUse, "digest", 1,
    ("ingestion", "features", "training", "serving", "monitoring"), ("monitoring",),
    "when an access key was last taken", retention_ms=DAY_MS,
)  # fmt: skip
PLACEMENTS: Final = Topic(
    "placements.v1", Placement, "name", 1, ("monitoring",), ("serving", "monitoring"),
    "the newest state of each placement: the rules of its slates", retention_ms=None,
    compacted=True,
)  # fmt: skip
EXPERIMENTS: Final = Topic(
    "experiments.v1", Experiment, "name", 1, ("monitoring",), ("serving", "monitoring"),
    "the newest state of each experiment: its placements, variants and shares", retention_ms=None,
    compacted=True,
)  # fmt: skip

TOPICS: Final = (
    INTERACTIONS,
    CATALOG,
    PEOPLE,
    ERASED_VISITORS,
    DEAD_LETTERS,
    FEATURE_UPDATES,
    RECOMMENDATIONS,
    MODEL_EVENTS,
    ALERTS,
    ACCESS_KEYS,
    ACCESS_KEY_USES,
    PLACEMENTS,
    EXPERIMENTS,
)

# Topics of which features keeps history. An erasure's cut goes through all of them.
HISTORY: Final = (INTERACTIONS, CATALOG, PEOPLE, RECOMMENDATIONS)

# Topics with records that may name a visitor. They forget by their retention.
PERSONAL: Final = (
    INTERACTIONS,
    PEOPLE,
    RECOMMENDATIONS,
    FEATURE_UPDATES,
    ERASED_VISITORS,
    DEAD_LETTERS,
)


def topic_of(record: CatalogRecord) -> Topic:
    """The topic of a catalogue entry: items have one, people another.

    Serving reads all items when it starts, and needs no user.
    """
    return CATALOG if record.entity in ("item", "item_patch") else PEOPLE
