from pathlib import Path

from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.positions import Source
from slipstream.stores.lake import INTERACTIONS, Lake
from slipstream_cli.doctor.events import read_events
from slipstream_cli.doctor.findings import Limits
from tests.unit.stores.lake_rows import rows as lake_rows


def test_newest_events_are_counted_up_to_the_limits(tmp_path: Path) -> None:
    lake = Lake(LakeSettings(uri=str(tmp_path)), "shop")
    assert (read_events(lake, Limits()).sampled, read_events(lake, Limits()).total) == (0, 0)
    for number, (date, event_type) in enumerate((("2026-01-01", "old"), ("2026-01-02", "new"))):
        some = lake_rows(*(f"{event_type}-{n}" for n in range(5)), date=date, event_type=event_type)
        lake.append(INTERACTIONS, some, {Source("interactions.v1", "t", number): 4})
    every = read_events(lake, Limits())
    assert (every.types, every.among) == ({"old": 5, "new": 5}, "10 events")
    few = read_events(lake, Limits(events=3))
    assert (few.types, few.sampled, few.total) == ({"new": 3}, 3, 10)
    assert few.among == "the newest 3 events"
    # A limit of bytes or of time ends the reading with the batch in which it was reached.
    assert read_events(lake, Limits(event_bytes=1)).types == {"new": 5}
    assert read_events(lake, Limits(seconds=0)).types == {"new": 5}
