"""lists that visitors request in an experiment, while processes are killed.

An answer that never came may be recorded or not. What monitoring makes of the recorded ones must be
what the same lake gives, counted at once, and by plain counting.
"""

import random
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import httpx
from sqlalchemy import Engine

from services.monitoring.control.experiments_repository import ExperimentTable
from slipstream.contracts.experiments import Experiment, ExperimentDesign
from slipstream.contracts.times import now_ms
from slipstream.stores import lake
from slipstream.stores.lake import Lake
from tests.e2e.stack import Stack
from tests.faults.reckoning import Findings
from tests.faults.traffic import Traffic

PLACEMENT, EXPERIMENT = "home", "variety"
# Unequal, so that visitors in two variants are not left out.
DESIGN: Final = {
    "placements": [PLACEMENT],
    "traffic": 0.9,
    "variants": [{"name": "as-now"}, {"name": "varied", "weight": 2, "diversity": 0.5}],
}
# Of some 320 items, so that an event's item is often in the list.
LENGTH: Final = 100
PAUSE_S: Final = 0.03
_TIMEOUT_S: Final = 5.0
# Counted from the answers as they come, not from the lake.
_BY_ANSWER: Final = ("models", "substituted", "latency_ms")


def begin_experiment(stack: Stack) -> None:
    """Create the placement and its experiment."""
    stack.put("monitoring", f"/v1/placements/{PLACEMENT}", {})
    stack.put("monitoring", f"/v1/experiments/{EXPERIMENT}", DESIGN)


class Shopper(threading.Thread):
    """Asks each process of serving in turn for the lists of visitors who are about.

    `answered` counts the lists that came. The visitor's next events name them.
    """

    def __init__(self, urls: Sequence[str], traffic: Traffic, seed: int) -> None:
        super().__init__(daemon=True)
        self._urls, self._traffic, self._chance = urls, traffic, random.Random(seed)
        self._ended = threading.Event()
        self.answered = 0

    def run(self) -> None:
        """Ask until ended."""
        with httpx.Client(timeout=_TIMEOUT_S, trust_env=False) as http:
            while not self._ended.wait(PAUSE_S):
                visitor_id = self._chance.choice(self._traffic.visitors())
                url = self._chance.choice(self._urls)
                body = {"user_id": visitor_id, "placement": PLACEMENT, "n": LENGTH}
                try:
                    answer = http.post(f"{url}/v1/recommendations", json=body)
                except httpx.TransportError:
                    continue
                if answer.status_code == httpx.codes.OK:
                    self._traffic.lists[visitor_id] = answer.json()["recommendation_id"]
                    self.answered += 1

    def end(self) -> None:
        """Ask no more."""
        self._ended.set()
        self.join()


def plainly_counted(found: Findings, history: Lake) -> Counter[str]:
    """The lists in the experiment by variant, as the lake has them: each once."""
    columns = ["recommendation_id", "experiment", "variant"]
    rows = history.read(lake.RECOMMENDATIONS, columns=columns).to_pylist()
    for list_id, times in Counter(row["recommendation_id"] for row in rows).items():
        if times > 1:
            found.say("list that is recorded twice", f"{list_id} ×{times}")
    return Counter(row["variant"] for row in rows if row["experiment"] == EXPERIMENT)


def know_experiment(database: Engine) -> None:
    """Keep the experiment in a database, before its lists are counted."""
    design = ExperimentDesign.model_validate(DESIGN)
    record = Experiment(name=EXPERIMENT, revision=1, design=design, changed_at=now_ms())
    ExperimentTable(database).take_in([record])


def results_of(database: Engine) -> dict[str, Any]:
    """The experiment's results, from the sums of a database."""
    results = ExperimentTable(database).results(EXPERIMENT, now_ms())
    return results.model_dump(mode="json", by_alias=True)


def compared(results: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an experiment's results that comes from the lake."""
    variants = [
        {name: it for name, it in variant.items() if name not in _BY_ANSWER}
        for variant in results["variants"]
    ]
    return {"variants": variants, **{it: results[it] for it in ("shares", "from", "until")}}


def answers_of(results: Mapping[str, Any]) -> dict[str, int]:
    """The lists of each variant that monitoring has added up as they came."""
    return {
        it["variant"]: sum(it["models"].values()) + sum(it["substituted"].values())
        for it in results["variants"]
    }
