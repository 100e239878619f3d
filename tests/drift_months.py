"""Simulated months without a change, and faults: what monitoring finds (`make drift-check`).

Months have hours, weekdays, days that differ by chance, visitors who come back, and a crawler.
Their windows are drawn as sketches, and judged by the watch of the service on a database. Faults go
the whole way from records on the topics. Click-through is drawn by visitor, and judged day by day.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.monitoring.arrivals import Arrivals, Watermark
from services.monitoring.click_trend import ClickSums, click_trend
from services.monitoring.drift_watch import DriftWatch
from services.monitoring.item_attributes import ItemCatalogue
from services.monitoring.repository import RecordLog
from services.monitoring.sampling import Sampler
from services.monitoring.settings import MonitoringSection
from services.monitoring.slate_readings import MEASURES
from services.monitoring.window_repository import WindowLog
from slipstream.contracts.events import CatalogRecord, Interaction
from slipstream.contracts.slates import RecordedSlate
from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.contracts.topics import RECOMMENDATIONS
from slipstream.evaluation.drift import Sketch, sketch_numbers
from slipstream.evaluation.drift_findings import Window
from tests.unit.monitoring.builders import database
from tests.unit.monitoring.recorded_slates import made_of

Floats = NDArray[np.float64]

WEEK_MS: Final = 7 * DAY_MS
START: Final = 2_950 * WEEK_MS
SETTINGS: Final = MonitoringSection()
MINUTE_MS: Final = 60_000
MONTH_DAYS: Final = 30
CHANGE_DAY: Final = 16


class Visitors:
    """The visitors of a month: people with tastes, habits and an hour, and a crawler."""

    def __init__(
        self, seed: int, slates_a_day: float = 7_000, people: int = 8_000, new_taste: float = 1.0
    ) -> None:
        # From day 16 on, a quarter of the categories is liked so many times as much.
        self.new_taste = new_taste
        self.random = np.random.default_rng(seed)
        # A visitor has about three slates in a window.
        self.a_day = slates_a_day / 3
        self.tastes = self.random.dirichlet(np.full(12, 0.4), people)
        self.activity = self.random.lognormal(0, 1, people)
        self.activity /= self.activity.sum()
        self.lengths = self.random.lognormal(1.5, 1, people)
        # Days differ by more than chance among visitors: weather, newsletters, prices.
        self.day_volume = self.random.lognormal(0, 0.1, 60)
        self.day_taste = self.random.lognormal(0, 0.1, (60, 12))
        self.day_price = self.random.lognormal(0, 0.02, 60)

    def window(self, number: int, length_ms: int) -> Window:
        """The window of this number, from the beginning of the month."""
        random = self.random
        begin = number * length_ms
        day, hour = begin // DAY_MS, begin % DAY_MS / HOUR_MS
        weekend, night = day % 7 >= 5, hour < 6
        by_hour = 0.25 if night else 1.25
        expected = self.a_day * by_hour * length_ms / DAY_MS * (1.4 if weekend else 0.9)
        n = max(1, random.poisson(expected * self.day_volume[day]))
        who = random.choice(len(self.tastes), n, p=self.activity)
        new = random.random(n) < (0.3 if weekend else 0.2)
        tastes = self.tastes[who] * self.day_taste[day]
        tastes[:, 6:9] *= self.new_taste if day >= CHANGE_DAY else 1.0
        tastes[:, :3] *= 1.5 if weekend else 1.0
        tastes[:, 3:5] *= 1.4 if hour >= 18 else 1.0
        categories = _draws(random, tastes, 5)
        items = categories * 40 + (random.zipf(1.5, categories.shape) - 1) % 40
        length = np.where(new, random.poisson(0.7, n), 1 + random.poisson(self.lengths[who]))
        read = length > 0
        since_s = random.lognormal(7 if night else 5, 2, n) * (0.7 if weekend else 1)
        price = np.exp(random.normal(3, 0.5, n) + categories[:, 0] * 0.1) * self.day_price[day]
        views = random.random((n, 5)) < (0.85 if weekend else 0.8)
        events = np.where(views, 0, random.integers(1, 3, (n, 5)))
        top = random.normal(5, 1, n) + np.log1p(length)
        model = random.random(n) < np.where(read, 0.98, 0.3)
        sources = np.where(random.random((n, 10)) < 0.7, 0, random.integers(1, 3, (n, 10)))
        shown = _draws(random, tastes, 10)
        sketches = {
            "history": _named(np.zeros((n, 1), int), ["read"]),
            "history_length": _numbers(length),
            "history_age_s": _numbers(since_s[read] + random.lognormal(9, 1.5, read.sum())),
            "event_gap_s": _numbers(random.lognormal(4, 1, (length > 1).sum())),
            "since_last_s": _numbers(since_s[read]),
            "last_event": _named((since_s[read, None] > 3600).astype(int), ["hour", "earlier"]),
            "event_types": _named(events[read], ["view", "cart", "purchase"]),
            "items": _named(items[read], None),
            "categories": _named(categories[read], None),
            "brands": _named(items[read] % 15, None),
            "price": _numbers(price[read]),
            "catalogue_items": _named(
                (random.random((read.sum(), 5)) < 0.01).astype(int), ["known", "unknown"]
            ),
            "newest_event": _named(
                (random.random((read.sum(), 1)) < 0.01).astype(int), ["read", "lacking"]
            ),
            "answered_by": _named((~model[:, None]).astype(int), ["model", "trending"]),
            "sources": _named(sources, ["ease", "knn", "network"]),
            "list_length": _numbers(np.full(n, 10)),
            "top_score": _numbers(top[model]),
            "score_spread": _numbers(top[model] * random.uniform(0.3, 0.6, model.sum())),
            "shown_categories": _named(shown, None),
            "shown_diversity": _numbers(random.integers(3, 10, n) / 10),
            "latency_ms": _numbers(random.lognormal(1, 0.3, n)),
        }
        return Window(
            START + begin,
            length_ms,
            n + 1.0,
            str(1 + day // 14),
            Sketch({"home": n * 0.6, "basket": n * 0.4}),
            {measure.name: sketches[measure.name] for measure in MEASURES},
            480,
        )


def _draws(random: np.random.Generator, weights: Floats, times: int) -> NDArray[np.int64]:
    """So many draws of each row's weights."""
    ends = np.cumsum(weights, axis=1)
    at = random.random((len(weights), times)) * ends[:, -1:]
    return (at[:, :, None] > ends[:, None, :]).sum(axis=2)


def _numbers(values: NDArray[Any]) -> Sketch:
    """The sketch of numbers, and of the crawler's."""
    return sketch_numbers([*values.tolist(), 1_000.0])


def _named(drawn: NDArray[Any], names: Sequence[str] | None) -> Sketch:
    """The sketch of the names that each visitor has drawn, and of the crawler's first."""
    counts = np.bincount(drawn.ravel()) / drawn.shape[1]
    counts[0] += 1
    labels = names or [f"n{at}" for at in range(len(counts))]
    kept = np.argsort(-counts)[:99]
    found = {labels[at]: float(counts[at]) for at in kept if counts[at]}
    rest = float(counts.sum()) - sum(found.values())
    return Sketch(found | ({"…": rest} if rest > 1e-9 else {}))


def month(
    seed: int, length_ms: int, slates_a_day: float, new_taste: float = 1.0
) -> tuple[int, int, int, float | None]:
    """The alerts of a shift and of a fault in a month, the looks, and hours from the change to the
    first alert.
    """
    visitors = Visitors(seed, slates_a_day, new_taste=new_taste)
    shifts, faults, looks, found_after = 0, 0, 0, None
    with tempfile.TemporaryDirectory() as folder:
        log = WindowLog(database(Path(folder)))
        seconds = length_ms // 1000
        settings = SETTINGS.model_copy(
            update={"drift_window_s": seconds, "fault_window_s": seconds}
        )
        watch = DriftWatch(log, settings, ItemCatalogue())
        shifted = faulty = False
        for number in range((MONTH_DAYS + 7) * DAY_MS // length_ms):
            window = visitors.window(number, length_ms)
            log.add(window)
            if number * length_ms < WEEK_MS:
                continue
            looks += 1
            if length_ms > HOUR_MS:
                now = any(each.lasting for each in watch.judge_shifts().features)
                shifts += now and not shifted
                shifted = now
                end = (number + 1) * length_ms
                if now and found_after is None and end > CHANGE_DAY * DAY_MS:
                    found_after = (end - CHANGE_DAY * DAY_MS) / HOUR_MS
            else:
                found = watch.judge_faults(window).faults
                faults += bool(found) and not faulty
                faulty = bool(found)
    return shifts, faults, looks, found_after


def click_months(months: int, seed: int, *, drop: float = 0.0) -> tuple[int, list[int]]:
    """Months with an alert on click-through, and the days to the first one after a drop.

    Visitors' own rates differ (beta), weekends are 15 % better, and days differ by 3 %.
    """
    random = np.random.default_rng(seed)
    alerts, days_to = 0, []
    for _ in range(months):
        rates = random.beta(0.5, 9.5, 12_000)
        sums: dict[tuple[int, str], ClickSums] = {}
        for day in range(35 + MONTH_DAYS):
            factor = (1.15 if day % 7 >= 5 else 1.0) * random.lognormal(0, 0.03)
            factor *= 1 - drop if day >= 42 else 1
            who = random.integers(0, len(rates), 2_333)
            slates = random.geometric(1 / 3, len(who)).astype(float)
            clicked = random.binomial(slates.astype(int), np.minimum(1, rates[who] * factor))
            sums[day * DAY_MS, "home"] = ClickSums(
                len(who),
                slates.sum(),
                float(clicked.sum()),
                (slates**2).sum(),
                float((clicked**2).sum()),
                (slates * clicked).sum(),
            )
        found = [
            day
            for day in range(35, 35 + MONTH_DAYS)
            if any(
                it.fell
                for it in click_trend(
                    {key: it for key, it in sums.items() if key[0] <= day * DAY_MS},
                    day * DAY_MS,
                    DAY_MS,
                    WEEK_MS,
                    200,
                ).placements
            )
        ]
        alerts += bool(found)
        days_to += [next((day - 41 for day in found if day >= 42), 99)]
    return alerts, days_to


@dataclass
class Shop:
    """A shop with data that may be at fault from some time on. 60 items, 150 visitors an hour."""

    random: np.random.Generator
    fault: str = ""
    since: int = 0
    visitors: int = 150
    catalogue: ItemCatalogue = field(default_factory=ItemCatalogue)

    def items(self) -> list[CatalogRecord]:
        """The records of the catalogue, as they are with the fault where it has begun."""
        fault = self.fault if self.since else ""

        def attributes(n: int) -> dict[str, Any]:
            if fault == "missing":
                return {"title": f"Item {n}"}
            category = f"/shop/{n % 6}" if fault == "unseen values" else f"c{n % 6}"
            return {"categories": [category], "brand": f"b{n % 4}", "price": 5.0 + n}

        gone = fault == "catalogue emptied"
        return [
            CatalogRecord(
                entity="item",
                entity_id=f"i{n}",
                attributes={} if gone else attributes(n),
                deleted=gone,
                timestamp=1,
            )
            for n in range(60)
        ]

    def hour(self, begin: int, end: int) -> Iterator[Interaction | RecordedSlate]:
        """The records between two times, in their order."""
        random = self.random
        at_fault = self.fault if self.since else ""
        few = 0.1 if at_fault == "volume" else 1.0
        number = random.poisson(self.visitors * few * (end - begin) / HOUR_MS)
        times = np.sort(random.integers(begin, end, number))
        histories = [self._history(int(at)) for at in times]
        for n, at in enumerate(times.tolist()):
            user, history = f"u{begin}-{n}", histories[n]
            item, _, newest, _ = history[-1]
            yield Interaction(
                event_id=f"e{user}",
                event_type="view",
                user_id=user,
                item_id=item,
                timestamp=newest,
                received_at=newest,
            )
            if at_fault == "skewed":
                history = histories[n - 1]
            elif at_fault == "stale":
                history = [event for event in history if event[2] < self.since - HOUR_MS]
            elif at_fault == "constant":
                history = [(f"i{k}", "view", at - (9 - k) * MINUTE_MS, None) for k in range(3)]
            knn = at_fault != "source vanished" and random.random() < 0.3
            yield made_of(
                f"s{user}",
                at,
                history,
                [f"i{k}" for k in random.integers(0, 60, 3)],
                user=user,
                source="knn" if knn else "ease",
                scores=sorted(random.normal(3, 1, 3).tolist(), reverse=True),
            )

    def _history(self, at: int) -> list[tuple[str, str, int, None]]:
        random = self.random
        gaps = random.lognormal(5.5, 1.0, 1 + random.poisson(4)) * 1000 + 90_000
        times = at - np.cumsum(gaps).astype(int)[::-1]
        return [(f"i{random.integers(0, 60)}", "view", int(each), None) for each in times]


FAULTS: Final = (
    "missing",
    "constant",
    "stale",
    "skewed",
    "catalogue emptied",
    "unseen values",
    "volume",
    "source vanished",
)


def minutes_to_find(fault: str, seed: int) -> tuple[float | None, str]:
    """Minutes from the begin of a fault to its alert, and the words; None within three hours.

    The fault begins 20 minutes into an hour. Windows of an hour are compared with those of the day
    before, since no week is there.
    """
    shop = Shop(np.random.default_rng(seed), fault)
    # The first hour is no reference.
    begin, wait_ms = START + DAY_MS + HOUR_MS, 20 * MINUTE_MS
    with tempfile.TemporaryDirectory() as folder:
        engine = database(Path(folder))
        slates = RecordLog(engine)
        sampler = Sampler((HOUR_MS,), 5_000, shop.catalogue)
        watch = DriftWatch(WindowLog(engine), SETTINGS, shop.catalogue, sampler.expect)

        def pass_time(since: int, until: int) -> None:
            samples = sampler.take(shop.hour(since, until))
            slates.record(Arrivals(samples=samples), until)
            sampler.keep(samples)

        def found(now: int) -> str:
            _, report, _ = watch.look(now, {RECOMMENDATIONS.name: Watermark(now, now)})
            return "; ".join(f"{each.measure}: {each.why}" for each in report.faults)

        shop.catalogue.take(shop.items())
        shop.catalogue.caught_up = True
        for hour in range(4):
            pass_time(START + hour * HOUR_MS, START + (hour + 1) * HOUR_MS)
        pass_time(begin, begin + wait_ms)
        found(begin + wait_ms)
        shop.since = begin + wait_ms
        shop.catalogue.take(shop.items())
        passed = shop.since
        for minute in range(180):
            now = shop.since + (minute + 1) * MINUTE_MS
            pass_time(passed, now)
            passed = now
            if words := found(now):
                # Two more checks, of 15 s, open the alert.
                return minute + 1.5, words
    return None, ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--months", type=int, default=20, help="months judged for shifts")
    parser.add_argument("--fault-months", type=int, default=4, help="months judged for faults")
    parser.add_argument("--click-months", type=int, default=200, help="months of click-through")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    begun, failed = time.process_time(), False

    for name, months, length, sizes in (
        ("shift", given.months, 6 * HOUR_MS, (7_000, 30_000)),
        ("fault", given.fault_months, HOUR_MS, (7_000, 7_000)),
    ):
        totals = np.zeros(3, int)
        for number in range(months):
            totals += month(given.seed * 1_000 + number, length, sizes[number % 2])[:3]
        alerts = totals[0 if name == "shift" else 1]
        print(f"{months} months without a change: {alerts} {name} alerts in {totals[2]} looks")
        failed |= alerts > 1
    for times in (2.0, 4.0):
        for size in (7_000, 30_000):
            *_, hours = month(given.seed, 6 * HOUR_MS, size, times)
            print(
                f"a quarter of the categories liked {times:g} times as much, {size:,} slates a day:"
                f" {'not found' if hours is None else f'found after {hours:.0f} h'}"
            )
    alerts, _ = click_months(given.click_months, given.seed)
    print(f"{given.click_months} months without a change: {alerts} with a click-through alert")
    failed |= alerts > 0.05 * given.click_months
    for drop in (0.2, 0.3):
        _, days = click_months(max(1, given.click_months // 10), given.seed + 1, drop=drop)
        late = sum(each > 14 for each in days)
        print(
            f"click-through down by {drop:.0%}: found after {np.median(days):.0f} days (median),"
            f" {late} of {len(days)} months not within 14"
        )
    for fault in ("", *FAULTS):
        minutes, words = minutes_to_find(fault, given.seed)
        told = "not found" if minutes is None else f"found after {minutes:.1f} min: {words}"
        print(f"{fault or 'no fault'}: {told}", flush=True)
        failed |= (minutes is None) == bool(fault)
    print(f"{time.process_time() - begun:.0f} s of processor time")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
