"""Offsets that may be committed, and those of records that are lost."""

from slipstream.broker.incarnations import Incarnations
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.positions import Source
from slipstream.contracts.topics import INTERACTIONS

AT = Source(INTERACTIONS.name, "id", 3)


def test_offsets_of_lost_records_are_left_out_once_the_log_has_parted_from_them() -> None:
    incarnations = Incarnations(KafkaSettings(), None, {"t": INTERACTIONS})  # type: ignore[arg-type]
    incarnations.ids = {"t": "id"}
    after = AT.since(5)
    assert list(incarnations.by_partition({AT: 20}).values()) == [20]
    assert list(incarnations.by_partition({after: 12, AT: 20}).values()) == [12]
    assert incarnations.by_partition({AT: 25}) == {}
    assert list(incarnations.by_partition({after.since(8): 9, after: 30}).values()) == [9]
    assert incarnations.by_partition({Source(INTERACTIONS.name, "other", 3): 1}) == {}
