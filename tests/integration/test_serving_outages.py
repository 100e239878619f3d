"""What serving answers while a server or a service is away, and after it has come back.

Serving and features are processes of their own, on servers of production. `make outages` prints the
table.
"""

import statistics
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from tests.integration.outage_scene import (
    GONE,
    Shop,
    listens,
    many,
    relaunch,
    shop,
    slate_arrives,
    until,
)
from tests.unit.serving.fakes import small_bundle

__all__ = ["shop"]

pytestmark = pytest.mark.servers("real")

# 19 of 20 answers take less: half the deadline of the store. Only the first few wait for one that
# hangs, and a busy machine holds up some others.
PATIENCE_S = 0.5
# Below any wait for a server that is not there.
LONGEST_S = 10.0


def test_each_outage_is_answered_in_time_labelled_and_over_without_a_restart(shop: Shop) -> None:
    rows = [("all parts there", *_figures(shop.ask()), "")]
    process = shop.serving.process
    for name, (take, bring) in shop.outages().items():
        take()
        answers = shop.ask()
        labels = Counter(answer["answered_by"] for _, answer in answers)
        away = name.startswith("Redis") or name == "all four"
        personal = [answer for _, answer in answers if answer["user_id"] == "ada"]
        for answer in personal:
            assert ("the online store does not answer" in answer["reason"]) == away, name
            assert (answer["model_version"] is None) == away, name
        assert labels["none"] == 0 and all(answer["items"] for _, answer in answers), name
        assert GONE not in {item["item_id"] for item in many(shop)}, name
        times = sorted(seconds for seconds, _ in answers)
        assert times[len(times) * 19 // 20] < PATIENCE_S and times[-1] < LONGEST_S, name
        bring()
        # What happens now is seen again: a click, and a promotion.
        shop.click()
        version = str(int(shop.training.stub.champion or 0) + 1)
        shop.training.stub.publish(small_bundle(version), version)
        recovered_s = until(shop.up_to_date)
        slate_arrives(shop)
        assert shop.serving.process is process and shop.serving.alive
        rows.append((name, *_figures(answers), f"{recovered_s:.1f} s"))
    print("\n" + _table(rows))


def test_serving_that_starts_while_all_are_away_answers_from_its_disk(shop: Shop) -> None:
    version = shop.recommended()["model_version"]
    shop.take_all()
    shop.serving.kill()
    relaunch(shop.serving)
    began = time.monotonic()
    until(lambda: listens(shop.client))
    until(lambda: shop.client.get("/health/ready").status_code == 200)
    print(f"\nready {time.monotonic() - began:.1f} s after a start without any server")
    answers = shop.ask()
    assert {answer["answered_by"] for _, answer in answers} == {"model", "similar", "trending"}
    assert GONE not in {item["item_id"] for item in many(shop)}
    assert shop.client.get("/v1/model").json()["version"] == version
    shop.bring_all()
    shop.click()
    until(shop.up_to_date)
    slate_arrives(shop)


def _figures(answers: Sequence[tuple[float, dict[str, Any]]]) -> tuple[str, str, str]:
    labels = Counter(str(answer["answered_by"]) for _, answer in answers)
    milliseconds = [1000 * seconds for seconds, _ in answers]
    return (
        ", ".join(f"{label} {count}" for label, count in sorted(labels.items())),
        f"{statistics.median(milliseconds):.1f} ms",
        f"{max(milliseconds):.0f} ms",
    )


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    head = ("away", "answers, by step", "median", "slowest", "up to date again after")
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)
