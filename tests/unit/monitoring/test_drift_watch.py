"""Windows are judged against like moments: shifts that last, and faults at once."""

from pathlib import Path

import pytest

from services.monitoring.arrivals import Arrivals, Watermark
from services.monitoring.drift_watch import DriftWatch
from services.monitoring.item_attributes import ItemCatalogue
from services.monitoring.repository import RecordLog
from services.monitoring.sampling import Sampler
from services.monitoring.settings import MonitoringSection
from services.monitoring.window_repository import WindowLog
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.topics import RECOMMENDATIONS
from tests.unit.monitoring.builders import T0, database
from tests.unit.monitoring.recorded_slates import history_of, made_of

MINUTE_MS = 60_000
START = T0 - T0 % (2 * MINUTE_MS)
# Minutes stand for hours and weeks, as in a closed loop.
SETTINGS = MonitoringSection(
    drift_window_s=60, fault_window_s=60, drift_season_s=60, drift_min_visitors=100
)


class Loop:
    """A platform of which each minute has some visitors."""

    def __init__(self, folder: Path, settings: MonitoringSection = SETTINGS) -> None:
        engine = database(folder)
        self.slates, self.catalogue = RecordLog(engine), ItemCatalogue()
        lengths = {settings.drift_window_s * 1000, settings.fault_window_s * 1000}
        self.sampler = Sampler(lengths, 1_000, self.catalogue)
        self.behind = False
        self.watch = DriftWatch(
            WindowLog(engine),
            settings,
            self.catalogue,
            self.sampler.expect,
            lambda: not self.behind,
        )

    def minute(self, number: int, history: str, visitors: int = 300, version: str = "1") -> None:
        """A minute in which so many visitors come, with histories of these items."""
        at = START + number * MINUTE_MS
        slates = [
            made_of(
                f"{number}-{n}",
                at + n,
                history_of(history[: 1 + n % len(history)], at - 1_000 * n),
                user=f"u{n}",
                model_version=version,
            )
            for n in range(visitors)
        ]
        samples = self.sampler.take(slates)
        end = at + MINUTE_MS - 1
        marks = {RECOMMENDATIONS.name: Watermark(end, end)}
        self.slates.record(Arrivals(samples=samples, watermarks=marks), end)
        self.sampler.keep(samples)

    def look(self, number: int) -> tuple[list[str], list[str]]:
        """The lasting shifts and the faults some seconds after the end of a minute."""
        now = START + (number + 1) * MINUTE_MS + 13_000
        marks = self.slates.watermarks()
        marks[RECOMMENDATIONS.name] = Watermark(now, now)
        shifts, faults, _ = self.watch.look(now, marks)
        lasting = [it.feature for it in shifts.features if it.lasting]
        return lasting, [it.measure for it in faults.faults]


@pytest.fixture
def loop(tmp_path: Path) -> Loop:
    return Loop(tmp_path)


def test_nothing_is_found_without_a_change(loop: Loop) -> None:
    for number in range(4):
        loop.minute(number, "abcde")
        assert loop.look(number) == ([], [])
    report, faults, _ = loop.watch.look(START + 4 * MINUTE_MS + 9_000, {})
    assert report.features
    assert {it.level for it in report.features} == {"stable"}
    assert faults.judged


def test_a_shift_is_found_once_it_lasts_and_ends_with_a_new_model(loop: Loop) -> None:
    for number in range(2):
        loop.minute(number, "abcde")
        assert loop.look(number) == ([], [])
    loop.minute(2, "abxyz")
    assert loop.look(2) == ([], [])
    loop.minute(3, "abxyz")
    assert loop.look(3) == (["items"], [])
    loop.minute(4, "abxyz", version="2")
    loop.look(4)
    loop.minute(5, "abxyz", version="2")
    assert loop.look(5) == ([], [])


def test_the_first_window_has_nothing_to_compare_with(loop: Loop) -> None:
    report, faults, trend = loop.watch.look(START, {})
    assert report.reason == "no window has ended yet"
    assert (faults.judged, trend.placements) == (False, [])
    loop.minute(0, "abc")
    assert loop.look(0) == ([], [])
    report, faults, _ = loop.watch.look(START + MINUTE_MS + 9_000, {})
    assert report.reason == "there is no window at a like moment before"
    assert not faults.judged


def test_a_fault_is_found_at_once_and_its_window_is_no_reference(loop: Loop) -> None:
    for number in range(2):
        loop.minute(number, "abcde")
        loop.look(number)
    loop.minute(2, "vwxyz")
    assert loop.look(2) == ([], ["items"])
    loop.minute(3, "abcde")
    assert loop.look(3) == ([], [])


def test_visitors_that_stay_away_are_a_fault_of_volume(loop: Loop) -> None:
    for number in range(2):
        loop.minute(number, "abcde")
        loop.look(number)
    loop.minute(2, "abcde", visitors=30)
    assert loop.look(2) == ([], ["volume"])


def test_a_silent_window_is_folded_though_nothing_follows(loop: Loop) -> None:
    for number in range(2):
        loop.minute(number, "abcde")
        loop.look(number)
    heard = Watermark(START + 2 * MINUTE_MS - 1, 0)
    late = START + 4 * MINUTE_MS
    _, faults, _ = loop.watch.look(late, {RECOMMENDATIONS.name: heard})
    assert [it.measure for it in faults.faults] == ["volume"]


def test_nothing_is_folded_while_slates_wait_to_be_read(loop: Loop) -> None:
    loop.minute(0, "abcde")
    loop.behind = True
    loop.look(0)
    assert loop.watch.windows.newest(MINUTE_MS, 1) == []
    loop.behind = False
    loop.look(0)
    assert len(loop.watch.windows.newest(MINUTE_MS, 1)) == 1


def catalogued(loop: Loop, *, deleted: bool = False) -> None:
    loop.catalogue.take(
        CatalogRecord(entity="item", entity_id=f"i{n}", deleted=deleted, timestamp=1)
        for n in range(40)
    )
    loop.catalogue.caught_up = True


def test_a_catalogue_that_was_emptied_is_found_before_the_window_ends(loop: Loop) -> None:
    catalogued(loop)
    loop.minute(0, "abcde")
    assert loop.look(0) == ([], [])
    catalogued(loop, deleted=True)
    assert loop.look(0) == ([], ["catalogue"])


def test_a_catalogue_that_was_not_read_again_is_no_fault(loop: Loop) -> None:
    catalogued(loop)
    loop.minute(0, "abcde")
    loop.look(0)
    fresh = ItemCatalogue()
    fresh.caught_up = True
    loop.watch.catalogue = fresh
    assert loop.look(0) == ([], [])


def test_a_restart_judges_the_newest_windows_again(tmp_path: Path) -> None:
    first = Loop(tmp_path)
    for number, history in enumerate(("abcde", "abcde", "abxyz", "abxyz")):
        first.minute(number, history)
        first.look(number)
    assert Loop(tmp_path).look(3) == (["items"], [])


def test_shifts_and_faults_have_windows_of_their_own(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"drift_window_s": 120, "drift_season_s": 120})
    loop = Loop(tmp_path, settings)
    for number in range(8):
        loop.minute(number, "abcde" if number < 4 else "abxyz")
        lasting, _ = loop.look(number)
        assert lasting == (["items"] if number == 7 else [])
    assert len(loop.watch.windows.newest(120_000, 9)) == 4
    assert len(loop.watch.windows.newest(60_000, 9)) == 8
