"""Recommendations with ten rules, a filter and diversity, compared with the same ones without.

The rules name items, so that they mean something in every catalogue. A cap lets half of a list
share a value of an attribute. A smaller one can use up all candidates, where items have several
values, and then further steps are asked.
"""

import statistics
import time
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

import httpx

from bench.load import Load, closed_loop, in_own_process
from bench.measurements import BenchmarkError, Measurement
from slipstream.contracts.times import now_ms

PLACEMENT: Final = "bench"
DIVERSITY: Final = 0.3
# Attributes that the cap may count, of which the first one that items have is taken.
_CAPPED: Final = ("brand", "category", "categories", "genres")
# Items that a rule names.
_NAMED: Final = 10
# Time for a placement to reach serving.
_PATIENCE_S: Final = 10.0


def policy(items: Sequence[str], attribute: str) -> dict[str, Any]:
    """A policy of ten rules of every kind, one of which counts in a context only.

    Args:
        items: Items that are recommended without rules.
    """
    groups = [list(items[begin : begin + _NAMED]) for begin in range(0, 6 * _NAMED, _NAMED)]
    named = [f"item_id in {group}" for group in groups]
    day = 24 * 3_600_000
    return {
        "diversity": DIVERSITY,
        "rules": [
            {"name": "first", "action": "exclude", "filter": named[0]},
            {"name": "second", "action": "include", "filter": f"not ({named[1]})"},
            {"name": "third", "action": "boost", "factor": 1.5, "filter": named[2]},
            {"name": "fourth", "action": "boost", "factor": 2, "filter": named[3]},
            {"name": "fifth", "action": "bury", "factor": 0.5, "filter": named[4]},
            {"name": "sixth", "action": "bury", "factor": 0.7, "filter": named[5]},
            {"name": "seventh", "action": "pin", "position": 3, "filter": named[2]},
            {"name": "eighth", "action": "cap", "attribute": attribute, "most": 5},
            {"name": "ninth", "action": "boost", "factor": 1.2, "filter": named[4],
             "when": 'device == "phone"'},
            {"name": "tenth", "action": "exclude", "filter": named[5], "ends_at": now_ms() - day},
        ],
    }  # fmt: skip


def with_rules(url: str, monitoring_url: str, items: Sequence[str], headers: dict[str, str]) -> str:
    """Keep the placement, and wait until serving knows it. Returns what is added to a query.

    Raises `BenchmarkError` where serving does not take it within ten seconds.
    """
    with httpx.Client(headers=headers, timeout=10) as client:
        sample = client.get(f"{url}/v1/trending", params={"n": 1, "attributes": True}).json()
        attributes = sample["items"][0]["attributes"] if sample["items"] else {}
        capped = next((name for name in _CAPPED if attributes.get(name)), _CAPPED[0])
        answer = client.put(
            f"{monitoring_url}/v1/placements/{PLACEMENT}", json=policy(items, capped)
        )
        answer.raise_for_status()
        body = {"user_id": "bench", "placement": PLACEMENT, "explain": True}
        deadline = time.monotonic() + _PATIENCE_S
        while len(client.post(f"{url}/v1/recommendations", json=body).json().get("rules", ())) < 8:
            if time.monotonic() > deadline:
                raise BenchmarkError("serving does not know the rules")
            time.sleep(0.1)
    unwanted = quote(f"item_id not in {list(items[-_NAMED:])}")
    return f"&placement={PLACEMENT}&filter={unwanted}"


def run(
    plain_url: str,
    plain: Sequence[bytes],
    ruled: Sequence[bytes],
    *,
    connections: int,
    rounds: int,
    seconds: float,
) -> Measurement:
    """Measure requests/s with rules and without, in turns.

    Args:
        plain: Prepared requests without rules.
        ruled: The same with rules.
        rounds: Rounds of each, of which the median counts.
    """
    loads: dict[bool, list[Load]] = {False: [], True: []}
    for _ in range(rounds):
        for has_rules, requests in ((False, plain), (True, ruled)):
            load = in_own_process(
                closed_loop, plain_url, requests, connections=connections, seconds=seconds
            )
            loads[has_rules].append(load.succeeded())
    without, with_all = (
        statistics.median(load.rate for load in loads[has_rules]) for has_rules in (False, True)
    )
    middle = sorted(loads[True], key=lambda load: load.rate)[rounds // 2]
    return Measurement(
        name="with ten rules, a filter, diversity",
        value=with_all,
        unit="requests/s",
        ceiling=without,
        ratio=with_all / without,
        note=f"set against the same requests without, in turns: {without / with_all:.2f} times"
        " their time",
        **middle.percentiles(),
    )
