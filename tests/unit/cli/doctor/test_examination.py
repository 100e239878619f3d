"""The examination's look at the services and at the newest events."""

from pathlib import Path
from typing import Any

from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.positions import Source
from slipstream.stores.lake import INTERACTIONS, Lake
from slipstream_cli.doctor import examination
from slipstream_cli.doctor.findings import Limits
from tests.unit.stores.lake_rows import rows as lake_rows


def test_a_service_that_takes_no_connection_is_asleep_where_monitoring_says_so() -> None:
    nowhere: Any = dict.fromkeys(("training", "serving", "features"), "http://127.0.0.1:9")
    services, _ = examination._ask(examination.Places(None, nowhere), {"serving"})  # type: ignore[arg-type]
    assert {each.name: each.state for each in services} == {
        "training": "away",
        "serving": "asleep",
        "features": "away",
    }


def test_newest_events_are_counted_up_to_the_limits(tmp_path: Path) -> None:
    lake = Lake(LakeSettings(uri=str(tmp_path)), "shop")
    none = examination.read_events(lake, Limits())
    assert (none.sampled, none.total) == (0, 0)
    for number, (date, event_type) in enumerate((("2026-01-01", "old"), ("2026-01-02", "new"))):
        some = lake_rows(*(f"{event_type}-{n}" for n in range(5)), date=date, event_type=event_type)
        lake.append(INTERACTIONS, some, {Source("interactions.v1", "t", number): 4})
    every = examination.read_events(lake, Limits())
    assert (every.types, every.among) == ({"old": 5, "new": 5}, "10 events")
    few = examination.read_events(lake, Limits(events=3))
    assert (few.types, few.sampled, few.total) == ({"new": 3}, 3, 10)
    assert few.among == "the newest 3 events"
    # A limit of bytes or of time ends the reading with the batch in which it was reached.
    assert examination.read_events(lake, Limits(event_bytes=1)).types == {"new": 5}
    assert examination.read_events(lake, Limits(seconds=0)).types == {"new": 5}
