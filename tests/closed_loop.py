"""`make closed-loop`: from a change of tastes to a better model, and a fault without an answer.

Shoppers of the living simulator visit `slipstream up`. Some time after the first model, all tastes
change: monitoring must open an alert, training must run because of it, the gate must promote, and
the true click-through must recover. New histories bring much of it back without any model. So the
new model's lists are also made again by the old one, from the same histories, and the truth judges
both. Then the importer or the tracker breaks: monitoring must find it, and a run that is requested
meanwhile must not be promoted. Windows and waits are of seconds; the code is that of hours.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import numpy as np

from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.times import now_ms
from slipstream.datasets.living_shop import LivingShop, Visit, make_shop, react
from slipstream.evaluation.significance import Interval, bootstrap_difference
from slipstream.stores.lake import RECOMMENDATIONS, Lake
from tests.e2e.stack import Stack, running
from tests.servers import Outside

MONITORING: Final = {
    "CHECK_INTERVAL_S": "3",
    "FAILING_CHECKS_TO_OPEN": "2",
    "PASSING_CHECKS_TO_CLOSE": "2",
    # A window is compared with the one before, and with the model's first.
    "DRIFT_WINDOW_S": "{window}",
    "FAULT_WINDOW_S": "{window}",
    "DRIFT_SEASON_S": "{window}",
    "DRIFT_MIN_VISITORS": "100",
    # Click-through is compared over two such periods, once a click had time to come.
    "QUALITY_PERIOD_S": "{window}",
    "ATTRIBUTION_WINDOW_S": "10",
    "COUNT_EVERY_S": "2",
}
TRAINING: Final = {
    # Nothing starts a run but an alert and this program.
    "SCHEDULE_MINUTES": "0",
    "NEW_EVENTS": "0",
    "CATALOG_CHANGES": "0",
    "COOLDOWN_MINUTES": "0",
    "CHECK_SECONDS": "1",
    "NICENESS": "0",
    # Shoppers do in minutes what people do in weeks.
    "EXCLUDE_SCRIPTED": "false",
    # The latest two minutes, as a run of a large shop has the latest weeks.
    "MOST_EVENTS": "100000",
}
# Rules with alerts that request a run.
SHIFTS: Final = ("click_through_dropped", "feature_drift")
ALERT_LIMIT_MIN: Final = 3.0
# Part of the way back, from the low after the shift to the click-through before, that is recovery.
WAY_BACK: Final = 0.8
# Length of the spans before and after the shift that are compared (s).
SPAN_S: Final = 30.0
# A replica of serving takes a new model within so many seconds.
SWAP_S: Final = 10.0
# Lists of the new model that the old one makes again.
MADE_AGAIN: Final = 300
PAUSE_S: Final = 1.0


class Compared(NamedTuple):
    """True click-through of lists by the new model, and of those by the old one at such moments."""

    new: float
    old: float
    difference: Interval


class Check(NamedTuple):
    """A thing that must be so, and what was found."""

    name: str
    found: str
    holds: bool


def settings(window_s: int) -> dict[str, str]:
    """The environment of the stack."""
    sections = {"MONITORING": MONITORING, "TRAINING": TRAINING, "FEATURES": {"LAKE_FLUSH_S": "2"}}
    return {
        f"SLIPSTREAM_{section}__{name}": value.format(window=window_s)
        for section, values in sections.items()
        for name, value in values.items()
    }


class Loop:
    """A stack with shoppers. `entries` is monitoring's timeline, oldest first.

    Args:
        stack: The stack.
        shoppers: The simulator's process.
    """

    def __init__(self, stack: Stack, shoppers: "subprocess.Popen[bytes]") -> None:
        self.stack, self._shoppers = stack, shoppers
        self._began_ms = now_ms()
        self.entries: list[dict[str, Any]] = []
        self._told: set[str] = set()

    def say(self, words: str, at_ms: int | None = None) -> None:
        """Print a line with its second since the start."""
        second = ((at_ms or now_ms()) - self._began_ms) / 1000
        print(f"{second:6.0f} s  {words}", flush=True)

    def wait(self, found: Callable[[], Any], until_ms: int) -> Any:
        """What `found` returns once that is true; None at the time, or when the shoppers end."""
        while self._shoppers.poll() is None and now_ms() < until_ms:
            # A service that is busy answers at the next look.
            with suppress(httpx.TransportError):
                self._look()
                if value := found():
                    return value
            time.sleep(PAUSE_S)
        return None

    def _look(self) -> None:
        page = self.stack.get("monitoring", "/v1/timeline", limit=100, window_minutes=10)
        self.entries = page["items"][::-1]
        for entry in self.entries:
            closed = (entry["alert"] or {}).get("closed_at")
            words = f"{entry['entry_id']}{' closed' if closed else ''}: {entry['summary']}"
            known = f"{entry['entry_id']} {closed} {(entry['run'] or {}).get('state')}"
            if known not in self._told:
                self._told.add(known)
                self.say(words[:230])

    def alerts(self, rule: str) -> list[dict[str, Any]]:
        """The alerts of a rule."""
        return [each for each in self.entries if (each["alert"] or {}).get("rule") == rule]

    def run(self, run_id: str) -> dict[str, Any] | None:
        """A run that has ended; None before."""
        found = self.stack.get("training", f"/v1/runs/{run_id}")
        return found if found["finished_at"] else None

    def promotions(self) -> list[dict[str, Any]]:
        """The promotions."""
        return [e for e in self.entries if (e["model"] or {}).get("event") == "promoted"]


def true_rate(truth: Mapping[str, Any], since_ms: float, until_ms: float) -> float:
    """The true click-through of the lists between two times."""
    begun = truth["started_at"]
    steps = [
        step
        for step in truth["series"]
        if since_ms - 5_000 <= begun + step["at_s"] * 1000 < until_ms - 5_000
    ]
    lists = sum(step["lists"] for step in steps)
    return sum(step["expected_clicked"] for step in steps) / lists if lists else float("nan")


def shift_checks(
    loop: Loop, given: argparse.Namespace, end: Callable[[float], int]
) -> dict[str, Any]:
    """Follow a shift to the promotion that answers it; the moments that were found."""
    seen: dict[str, Any] = {}
    shifted_ms = end(given.shift)
    loop.wait(lambda: False, end(given.first))
    first = loop.stack.post("training", "/v1/runs", {"reason": "the first model"})
    seen["first"] = loop.wait(lambda: loop.run(first["run_id"]), shifted_ms)
    loop.wait(lambda: False, shifted_ms)
    seen["early"] = [each for rule in (*SHIFTS, "data_fault") for each in loop.alerts(rule)]
    loop.say("tastes change")

    until = end(given.break_after)
    alert = loop.wait(
        lambda: next((e for r in SHIFTS for e in loop.alerts(r) if e["at"] > shifted_ms), None),
        until,
    )
    if alert is None:
        return seen
    seen["alert"] = alert

    def answers() -> list[dict[str, Any]]:
        return [e for e in loop.entries if alert["entry_id"] in e["because"]]

    def decisions() -> list[dict[str, Any]]:
        runs = [e["entry_id"] for e in answers()]
        return [e for e in loop.entries if e["model"] and not set(runs).isdisjoint(e["because"])]

    # A refused run is repeated when the time since the onset has doubled.
    loop.wait(lambda: any(e["model"]["event"] == "promoted" for e in decisions()), until)
    seen["runs"] = [e["run"] for e in answers()]
    seen["decisions"] = decisions()
    loop.wait(lambda: False, until)
    return seen


def fault_checks(
    loop: Loop, given: argparse.Namespace, end: Callable[[float], int]
) -> dict[str, Any]:
    """Follow a fault, and request a run while it is open; the moments that were found."""
    seen: dict[str, Any] = {}
    broke_ms = end(given.break_after)
    seen["early"] = loop.alerts("data_fault")
    loop.say(f"{given.broken} breaks")
    until = end(given.seconds)
    alert = loop.wait(lambda: next(iter(loop.alerts("data_fault")), None), until)
    if alert is not None:
        seen["alert"] = alert
        asked = loop.stack.post("training", "/v1/runs", {"reason": "requested during a fault"})
        seen["run"] = loop.wait(lambda: loop.run(asked["run_id"]), until)
        loop.wait(lambda: False, min(until, now_ms() + 5_000))
    seen["promoted"] = [each for each in loop.promotions() if each["at"] > broke_ms]
    seen["asked"] = [
        each
        for each in loop.entries
        if each["run"] and each["run"]["trigger"] == "alert" and each["at"] > broke_ms
    ]
    seen["open"] = [each["alert"]["closed_at"] is None for each in loop.alerts("data_fault")]
    return seen


def compared(
    stack: Stack, shop: LivingShop, decision: Mapping[str, Any], until_ms: int
) -> Compared | None:
    """Lists that the promoted model has made until a time, and what the one before makes instead.

    They are drawn at random. None where none could be made again.
    """
    model = decision["model"]
    columns = ("recommendation_id", "user_id", "model_version", "timestamp")
    lake = Lake(LakeSettings(uri=str(stack.directory / "lake")), "slipstream")
    made = [
        row
        for row in lake.read(RECOMMENDATIONS, None, columns).to_pylist()
        if row["model_version"] == model["version"] and row["timestamp"] < until_ms
    ]
    drawn = np.random.default_rng(0).choice(len(made), min(MADE_AGAIN, len(made)), replace=False)
    rates: list[tuple[float, float]] = []
    for slate in (made[place] for place in drawn.tolist()):
        path = f"/v1/answers/{slate['recommendation_id']}:what-if"
        answer = stack.clients["serving"].post(path, json={"model_version": model["previous"]})
        if answer.status_code != httpx.codes.OK:
            print(f"{slate['recommendation_id']} can't be made again: {answer.text[:200]}")
            continue
        both = answer.json()
        # `shopper-7` with an account, `device-7-0` without.
        visit = Visit(0, int(slate["user_id"].split("-")[1]), "", "", 1, None, False)
        new, old = (
            react(
                shop, visit, 0, [item["item_id"] for item in both[name]], shifted=True
            ).probability
            for name in ("before", "after")
        )
        rates.append((new, old))
    if not rates:
        return None
    new_rates, old_rates = np.array(rates).T
    difference = bootstrap_difference(new_rates, old_rates, 0)
    return Compared(float(new_rates.mean()), float(old_rates.mean()), difference)


def judged_shift(
    seen: Mapping[str, Any], truth: Mapping[str, Any], both: Compared | None
) -> list[Check]:
    """The checks of the shift, with the true click-through."""
    shifted = truth["shifted_at"] or float("inf")
    first = seen.get("first")
    early = ", ".join(each["summary"] for each in seen["early"])
    checks = [
        Check(
            "a first model before the shift", first["decision"] if first else "none", bool(first)
        ),
        Check("no alert on drift or faults before the shift", early or "none", not early),
    ]
    alert: Any = seen.get("alert")
    runs: Sequence[Any] = seen.get("runs", ())
    decisions: Sequence[Any] = seen.get("decisions", ())
    decision: Any = decisions[-1] if decisions else None
    minutes = (alert["at"] - shifted) / 60_000 if alert else float("inf")
    found = (
        f"after {minutes:.1f} min: {alert['alert']['rule']}: {alert['summary']}"
        if alert
        else "none"
    )
    checks.append(Check("an alert on the shift within 3 min", found, minutes <= ALERT_LIMIT_MIN))
    found = "; ".join(f"{run['trigger']}: {run['reason']}" for run in runs)
    triggers = {run["trigger"] for run in runs}
    checks.append(Check("a run because of it", found or "none", triggers == {"alert"}))
    event = decision["model"]["event"] if decision else "no decision"
    by = decision["decided_by"] if decision else ""
    reason = "; ".join(f"{it['model']['event']}: {it['model']['reason']}" for it in decisions)
    checks.append(
        Check("promoted by the gate", reason or event, (event, by) == ("promoted", "gate"))
    )
    if event != "promoted":
        return checks
    before = true_rate(truth, shifted - SPAN_S * 1000, shifted)
    low = true_rate(truth, shifted, min(shifted + SPAN_S * 1000, decision["at"]))
    still = true_rate(truth, decision["at"] - SPAN_S * 1000, decision["at"])
    swapped = decision["at"] + SWAP_S * 1000
    after = true_rate(truth, swapped, truth["broke_at"] or truth["ended_at"])
    back = (after - low) / (before - low) if before > low else 1.0
    words = (
        f"{before:.1%} before the shift, {low:.1%} after it, {still:.1%} before the promotion,"
        f" {after:.1%} after it: {back:.0%} of the way back"
    )
    recovered = before > low and back >= WAY_BACK
    checks.append(Check(f"true click-through {WAY_BACK:.0%} of the way back", words, recovered))
    found = (
        f"{both.new:.1%} with the new model, {both.old:.1%} with the old one from the same"
        f" histories: {both.difference.value:+.1%}"
        f" [{both.difference.low:+.1%}, {both.difference.high:+.1%}]"
        if both
        else "no list could be made again"
    )
    surely = both is not None and both.difference.low > 0
    return [*checks, Check("truly better than the old model", found, surely)]


def judged_fault(seen: Mapping[str, Any], truth: Mapping[str, Any]) -> list[Check]:
    """The checks of the fault."""
    early = ", ".join(each["summary"] for each in seen["early"])
    alert, run = seen.get("alert"), seen.get("run")
    minutes = (alert["at"] - (truth["broke_at"] or 0)) / 60_000 if alert else float("inf")
    found = f"after {minutes:.1f} min: {alert['summary']}" if alert else "none"
    reason = f"{run['decision']}: {run['decision_reason']}" if run else "none has ended"
    asked = ", ".join(each["summary"] for each in seen["asked"])
    promoted = ", ".join(each["summary"] for each in seen["promoted"])
    return [
        Check("no data_fault before the fault", early or "none", not early),
        Check("data_fault within 3 min", found, minutes <= ALERT_LIMIT_MIN),
        Check("it is open to the end", str(any(seen["open"])), any(seen["open"])),
        Check("no alert requests a run", asked or "none", not asked),
        Check("a run by hand promotes nothing", reason, bool(run and run["decision"] == "refused")),
        Check("no promotion since the fault", promoted or "none", not promoted),
    ]


def told(entries: Sequence[Mapping[str, Any]], began_ms: int) -> None:
    """Print the timeline, oldest first."""
    for each in entries:
        because = (
            f"\n            because of {', '.join(each['because'])}" if each["because"] else ""
        )
        print(
            f"  {(each['at'] - began_ms) / 1000:6.0f} s  {each['kind']:5}"
            f" [{each['decided_by']}] {each['summary'][:200]}{because}"
        )
        if change := each["click_through"]:
            before, after = change["before"]["value"], change["after"]["value"]
            if before is not None and after is not None:
                print(f"            click-through counted: {before:.1%} before, {after:.1%} after")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=200.0, help="events a second")
    parser.add_argument("--shoppers", type=int, default=600)
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--window", type=int, default=30, help="length of a window (s)")
    parser.add_argument("--first", type=float, default=30, help="second of the first run")
    parser.add_argument("--shift", type=float, default=155, help="second in which tastes change")
    parser.add_argument(
        "--break", dest="broken", choices=("catalogue", "feature"), default="catalogue"
    )
    parser.add_argument("--break-after", type=float, default=432, help="second of the fault")
    parser.add_argument("--seconds", type=float, default=575, help="last second, at most")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="closed-loop-") as place:
        folder = Path(place)
        truth_file = folder / "truth.json"
        with running(folder, Outside({}, {}), **settings(given.window)) as stack:
            words = f"--rate {given.rate} --shoppers {given.shoppers} --items {given.items}"
            words += f" --seed {given.seed} --shift {given.shift} --break {given.broken}"
            words += f" --break-after {given.break_after} --seconds {given.seconds}"
            command = [sys.executable, "-m", "slipstream_cli", "simulate", "--live", *words.split()]
            command += ["--data-dir", str(folder), "--json", str(truth_file)]
            with (folder / "shoppers.log").open("wb") as log:
                shoppers = subprocess.Popen(command, stdout=log, stderr=log)
            try:
                loop = Loop(stack, shoppers)
                began_ms = now_ms()

                def moment(second: float) -> int:
                    return began_ms + int(second * 1000)

                shift = shift_checks(loop, given, moment)
                fault = fault_checks(loop, given, moment)
            finally:
                shoppers.terminate()
                shoppers.wait(60)
            truth, both = json.loads(truth_file.read_text()), None
            decision = (shift.get("decisions") or [None])[-1]
            if decision is not None and decision["model"]["event"] == "promoted":
                shop = make_shop(given.seed, given.shoppers, given.items)
                both = compared(stack, shop, decision, truth["broke_at"] or truth["ended_at"])
            stack.stop()
    seconds = (truth["ended_at"] - truth["started_at"]) / 1000
    print("\nThe timeline, oldest first:")
    told(loop.entries, truth["started_at"])
    print("\nThe truth, if every shopper got the best list, popular items, random ones:")
    for phase, rates in truth["click_through"].items():
        print(f"  {phase:7}" + ", ".join(f" {name} {rate:.1%}" for name, rate in rates.items()))
    print(f"\n{sum(truth['events'].values()) / seconds:.0f} events a second in {seconds:.0f} s\n")
    checks = judged_shift(shift, truth, both) + judged_fault(fault, truth)
    for each in checks:
        print(f"{'ok   ' if each.holds else 'FAILS'} {each.name}: {each.found[:400]}")
    failed = [each.name for each in checks if not each.holds]
    print("\n" + (f"Not as it must be: {', '.join(failed)}" if failed else "All as it must be."))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
