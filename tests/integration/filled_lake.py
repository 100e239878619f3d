"""The lake as features fills it, without features."""

from collections.abc import Sequence

from services.features.history.archive import TABLES, Row, as_table
from slipstream.broker.records import Message, encode
from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.events import Interaction, Record, Slate
from slipstream.contracts.positions import Source
from slipstream.contracts.slates import read_slate
from slipstream.contracts.topics import INTERACTIONS, RECOMMENDATIONS
from slipstream.stores.lake import Lake


class FilledLake:
    """A lake that takes slates and interactions, in batches with offsets of its own."""

    def __init__(self, settings: LakeSettings, namespace: str) -> None:
        self._lake, self._offset = Lake(settings, namespace), 0

    def take(self, records: Sequence[Record]) -> None:
        """Write the slates and interactions among these."""
        for topic, kind in ((RECOMMENDATIONS, Slate), (INTERACTIONS, Interaction)):
            source, rows = Source(topic.name, "t", 0), list[Row]()
            table, row_of = TABLES[topic.name]
            for record in records:
                if isinstance(record, kind):
                    self._offset += 1
                    read = read_slate(encode(record)) if isinstance(record, Slate) else record
                    rows.append(row_of(Message(source, self._offset, "", read, "")))
            if rows:
                self._lake.applied_offsets(table, [source])
                self._lake.append(table, as_table(table, rows), {source: self._offset})
