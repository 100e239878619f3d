"""The watch over drift and faults: windows are folded as they end, and judged once each.

Shifts are judged on windows of `drift_window_s`, faults on those of `fault_window_s`, which are
shorter. Each is compared with windows at like moments: a season before, and the model's first.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import BaseModel, Field

from services.monitoring.arrivals import Watermark
from services.monitoring.click_trend import ClickTrend, click_trend, since
from services.monitoring.item_attributes import ItemCatalogue
from services.monitoring.settings import MonitoringSection
from services.monitoring.slate_readings import MEASURES
from services.monitoring.window_repository import WindowLog
from slipstream.contracts.times import DAY_MS
from slipstream.contracts.topics import RECOMMENDATIONS
from slipstream.evaluation.drift import shares
from slipstream.evaluation.drift_findings import (
    Limits,
    Verdict,
    Window,
    catalogue_fault,
    judge,
    volume_fault,
)

Level = Literal["stable", "warning", "critical", "unknown"]

# Consecutive windows in which a shift must be found: a campaign of one window is none.
SHIFT_WINDOWS: Final = 2
# Least visitors for a verdict on faults, which are large.
FAULT_VISITORS: Final = 50
# A fault that has lasted for so long is how things are from now on.
_ADOPTED_MS: Final = 7 * DAY_MS
# A window is folded this long after its end, or a tenth of its length: slates are on their way.
_GRACE_MS: Final = 60_000
# Time after which a window is folded though no slate came since.
_SILENT_MS: Final = 600_000


class FeatureDriftFigures(BaseModel):
    """The drift of one measure: shares of visitors in a reference and lately, over the same bins.

    A bin is named by its least number, or by its name; `…` stands for all other names.
    """

    feature: str
    of: Literal["read", "said"] = Field(description="read by the model, or said by it")
    reference_window: str = Field(
        description="`season`: a season before; `first`: the model's first; `day`: a day before"
    )
    level: Level
    kind: Literal["", "shift", "fault"]
    lasting: bool = Field(description="whether the shift was found in the window before, too")
    psi: float | None = Field(description="null without a value in one of the windows")
    jensen_shannon: float | None
    kolmogorov_smirnov: float | None = Field(description="null for names")
    wasserstein: float | None = Field(description="in standard deviations; null for names")
    p: float | None
    visitors: int
    reference_visitors: int
    labels: list[str]
    reference: list[float]
    recent: list[float]


class Fault(BaseModel):
    """A fault of the data: a measure, the number of visitors (`volume`), or the `catalogue`."""

    measure: str
    why: str


class ShiftReport(BaseModel):
    """The newest window in which drift was judged; `start` is null before the first.

    `reason` says why there is nothing to compare with.
    """

    start: int | None = None
    window_ms: int
    model_version: str = ""
    visitors: int = 0
    reason: str = ""
    features: list[FeatureDriftFigures] = []
    figures: dict[str, float] = Field({}, description="coverage, gini and novelty of its lists")


class FaultReport(BaseModel):
    """The faults in the newest window; `judged` is false where it says too little."""

    start: int | None = None
    window_ms: int
    judged: bool = False
    faults: list[Fault] = []


@dataclass
class DriftWatch:
    """Folds windows and judges the newest ones. One thread uses it.

    Attributes:
        windows: Repository of windows.
        settings: Lengths and thresholds.
        catalogue: The catalogue in memory.
        expects: Told the catalogue's size in windows before.
        caught_up: Whether the topics were read up to now, nearly.
    """

    windows: WindowLog
    settings: MonitoringSection
    catalogue: ItemCatalogue
    expects: Callable[[int], None] = lambda _items: None
    caught_up: Callable[[], bool] = lambda: True

    def __post_init__(self) -> None:
        self.shift_ms = self.settings.drift_window_s * 1000
        self.fault_ms = self.settings.fault_window_s * 1000
        self._season_ms = self.settings.drift_season_s * 1000
        self._shifts = ShiftReport(window_ms=self.shift_ms)
        self._faults = FaultReport(window_ms=self.fault_ms)
        self._items_before: int | None = None
        self._looked = False

    def look(
        self, now_ms: int, marks: Mapping[str, Watermark]
    ) -> tuple[ShiftReport, FaultReport, ClickTrend]:
        """Fold what has ended, and return the verdicts on the newest windows."""
        newest = marks.get(RECOMMENDATIONS.name)
        heard = newest.event_time if newest else 0
        folded = self._fold(self.fault_ms, now_ms, heard)
        for window in folded or ([] if self._looked else self.windows.newest(self.fault_ms, 1)):
            self._faults = self.judge_faults(window)
        if self.shift_ms != self.fault_ms:
            folded = self._fold(self.shift_ms, now_ms, heard)
        if folded or not self._looked:
            self._shifts = self.judge_shifts()
        self._looked = True
        gone = self._catalogue_fault()
        faults = self._faults
        if gone:
            faults = faults.model_copy(update={"judged": True, "faults": [*faults.faults, gone]})
        return self._shifts, faults, self._clicks(now_ms)

    def _fold(self, length_ms: int, now_ms: int, heard_ms: int) -> list[Window]:
        """Fold the windows of a length that have ended, and return them, oldest first."""
        if not self.caught_up():
            return []
        end = now_ms - min(_GRACE_MS, length_ms // 10)
        if heard_ms < end - end % length_ms:
            end = max(heard_ms, now_ms - min(_SILENT_MS, length_ms))
        return self.windows.fold(length_ms, end, self._items())

    def _items(self) -> int | None:
        """The catalogue's size, where most of the topic is read."""
        size = self.catalogue.size()
        if size is None or self.catalogue.seen() * 2 < (self._items_before or 0):
            return None
        return size

    def judge_faults(self, window: Window) -> FaultReport:
        """The faults in a window, which is no reference from then on where it has some."""
        self.windows.adopt(window, FAULT_VISITORS, _ADOPTED_MS)
        found = self.windows.references(window, FAULT_VISITORS, self._season_ms, DAY_MS)
        sizes = [it.catalogue for it in found.values() if it.catalogue is not None]
        self._items_before = max(sizes, default=window.catalogue)
        self.expects(self._items_before or 0)
        limits = self._limits(FAULT_VISITORS)
        faults = [
            Fault(measure=it.measure.name, why=it.why)
            for it in judge(window, found, MEASURES, limits)
            if it.kind == "fault"
        ]
        like = found.get("season", found.get("day"))
        volume = volume_fault(window, like, limits) if like is not None else ""
        if volume:
            faults.append(Fault(measure="volume", why=volume))
        if faults:
            self.windows.mark_faulty(window)
        enough = bool(found) and window.visitors >= FAULT_VISITORS
        return FaultReport(
            start=window.start,
            window_ms=self.fault_ms,
            judged=enough or bool(faults),
            faults=faults,
        )

    def _catalogue_fault(self) -> Fault | None:
        why = catalogue_fault(self._items(), self._items_before)
        return Fault(measure="catalogue", why=why) if why else None

    def judge_shifts(self) -> ShiftReport:
        """The drift in the newest window."""
        newest = self.windows.newest(self.shift_ms, SHIFT_WINDOWS)
        if not newest:
            reason = "no window has ended yet"
            return ShiftReport(window_ms=self.shift_ms, reason=reason)
        limits = self._limits(self.settings.drift_min_visitors)
        verdicts = [
            judge(
                it,
                self.windows.references(it, limits.visitors, self._season_ms),
                MEASURES,
                limits,
            )
            for it in newest
        ]
        lasting = [
            {each.measure.name for each in of_window if each.kind == "shift"}
            for of_window in verdicts[1:]
        ]
        window = newest[0]
        features = [
            self._figures(verdict, all(verdict.measure.name in names for names in lasting))
            for verdict in verdicts[0]
        ]
        reason = "" if features else "there is no window at a like moment before"
        return ShiftReport(
            start=window.start,
            window_ms=self.shift_ms,
            model_version=window.version,
            visitors=round(window.visitors),
            reason=reason,
            features=sorted(features, key=lambda it: (-(it.psi or 0.0), it.feature)),
            figures=dict(window.figures),
        )

    def _limits(self, visitors: int) -> Limits:
        own = self.settings
        return Limits(own.psi_warning, own.drift_alpha, visitors)

    def _figures(self, verdict: Verdict, lasting: bool) -> FeatureDriftFigures:
        measure, found = verdict.measure, verdict.distances
        before, now = verdict.visitors
        level: Level = "stable"
        if min(before, now) < self.settings.drift_min_visitors:
            level = "unknown"
        elif verdict.kind and found is not None:
            level = "critical" if found.psi >= self.settings.psi_critical else "warning"
        return FeatureDriftFigures(
            feature=measure.name,
            of=measure.of,
            reference_window=verdict.reference,
            level=level,
            kind=verdict.kind,
            lasting=verdict.kind == "shift" and lasting,
            psi=found.psi if found else None,
            jensen_shannon=found.jensen_shannon if found else None,
            kolmogorov_smirnov=found.kolmogorov_smirnov if found else None,
            wasserstein=found.wasserstein if found else None,
            p=found.p if found else None,
            visitors=round(now),
            reference_visitors=round(before),
            labels=found.bins.labels if found else [],
            reference=shares(found.bins.reference) if found else [],
            recent=shares(found.bins.current) if found else [],
        )

    def _clicks(self, now_ms: int) -> ClickTrend:
        """The trend of click-through at the end of the newest period with sums.

        They come from the lake. While those of two periods are missing nothing is judged.
        """
        own = self.settings
        period_ms = own.quality_period_s * 1000
        matured = now_ms - own.attribution_window_s * 1000
        start = matured - matured % period_ms - period_ms
        sums = self.windows.clicks(period_ms, since(start - period_ms, period_ms, self._season_ms))
        known = {begin for begin, _ in sums}
        if start not in known and start - period_ms in known:
            start -= period_ms
        return click_trend(sums, start, period_ms, self._season_ms, own.quality_min_slates)
