"""What the benchmark of features sends, asks for and weighs is what it says."""

from collections import Counter
from pathlib import Path

import pytest

from services.features.reads.feast import Planner, rows_of
from slipstream.chassis.settings import RedisSettings
from slipstream.features.views import declare
from slipstream_cli.benchmarks import feast_server, feature_reads, state_sizes
from slipstream_cli.benchmarks.feast_server import FeastUnavailableError
from slipstream_cli.benchmarks.traffic import visits

NOW = 1_790_000_000_000


def test_visits_are_in_order_of_time_within_a_day_and_the_same_each_time() -> None:
    events = visits(2_000, 200, 50, NOW)
    assert events == visits(2_000, 200, 50, NOW)
    assert len(events) == len({event.event_id for event in events}) == 2_000
    times = [event.timestamp for event in events]
    assert times == sorted(times) and times[-1] <= NOW and times[0] > NOW - 25 * 3_600_000
    items = Counter(event.item_id for event in events).most_common()
    assert {event.user_id for event in events} == {f"v{number}" for number in range(200)}
    assert items[0][0] == "i0" and items[0][1] > 5 * items[-1][1]


def test_what_is_asked_for_is_declared() -> None:
    planner = Planner(declare())
    whole, halves = feature_reads._bodies()
    for body in (whole[0], *halves[:2]):
        plan = planner.of(tuple(body["features"]), full_names=True)
        rows = rows_of(body["entities"], plan)
        assert len(plan.columns) == len(body["features"])
        assert {len(ids) for ids in rows.values()} <= {1, feature_reads.ITEMS_ASKED}
    assert whole[0]["features"] == halves[0]["features"] + halves[1]["features"]


def test_states_are_weighed_on_the_server(redis_settings: RedisSettings, namespace: str) -> None:
    rows = state_sizes.run(redis_settings, namespace, visitors=60, items=20)
    assert [row["unit"] for row in rows] == ["bytes", "bytes"]
    assert all(100 < row["value"] <= state_sizes.BAR_BYTES for row in rows)


def test_feast_that_can_not_be_installed_is_said_to_be_unavailable() -> None:
    with pytest.raises(FeastUnavailableError, match="feast failed"):
        feast_server._run(["/nowhere/pip"], None, "feast")


def test_feast_is_called_from_other_folders_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("feast").mkdir()
    Path("feast", f"feast-{feast_server.RELEASE}.installed").touch()
    assert feast_server.installed(Path("feast"), print) == tmp_path / "feast" / "bin" / "python"
