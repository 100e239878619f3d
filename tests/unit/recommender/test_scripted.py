"""Scripted visitors are found by their times and items; persons are not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.datasets.simulator import Simulation, simulate
from slipstream.recommender.scripted import ScriptedVisitors, find_scripted
from tests.unit.recommender.floods import GAPS, WALKS, Log, flood


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """1,500 simulated persons with 30,000 events."""
    folder: Path = tmp_path_factory.mktemp("shop")
    table = pq.read_table(simulate(folder, Simulation(1_500, 400, 30_000)).interactions)
    visitors, items = (
        table[name].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
        for name in ("user_id", "item_id")
    )
    return Log(visitors, items, table["timestamp"].to_numpy())


def together(*logs: Log) -> Log:
    return Log(*(np.concatenate(parts) for parts in zip(*logs, strict=True)))


def test_no_simulated_person_is_scripted(shop: Log) -> None:
    mask, found = find_scripted(*shop)
    assert (mask.shape, mask.sum(), found.visitors, found.events) == ((1_500,), 0, 0, 0)


@pytest.mark.parametrize("unit", [1_000, 60_000, HOUR_MS, DAY_MS])
def test_times_that_were_rounded_make_no_person_regular(shop: Log, unit: int) -> None:
    assert find_scripted(shop.visitors, shop.items, shop.times // unit * unit)[1].visitors == 0


@pytest.mark.parametrize("walk", WALKS)
@pytest.mark.parametrize("gaps", GAPS[:2])
def test_sixty_scripted_visitors_among_persons_are_found(shop: Log, gaps: str, walk: str) -> None:
    bots = flood(gaps, walk, first_visitor=1_500)
    mask, found = find_scripted(*together(shop, bots))
    assert np.flatnonzero(mask).tolist() == list(range(1_500, 1_560))
    assert (found.visitors, found.events, found.signs["regularity"]) == (60, 11_100, 60)
    assert found.share == pytest.approx(11_100 / 41_100)
    assert (
        found.words() == "60 visitors with 11,100 events (27.0 %) look scripted, by regularity 60"
    )


def test_the_order_of_events_does_not_matter(shop: Log) -> None:
    log = together(shop, flood("jittered", first_visitor=1_500))
    order = np.random.default_rng(0).permutation(len(log.times))
    shuffled = Log(*(part[order] for part in log))
    assert find_scripted(*shuffled)[1] == find_scripted(*log)[1]


@pytest.mark.parametrize(
    ("sign", "bots"),
    [
        ("rate", lambda: flood("as a person's", mean_ms=2_000, first_visitor=1_500)),
        ("breadth", lambda: flood("as a person's", events=700, items=900, first_visitor=1_500)),
        ("hours", lambda: flood("as a person's", mean_ms=400_000, events=300, first_visitor=1_500)),
    ],
)
def test_irregular_scripts_are_found_by_what_else_no_person_does(
    shop: Log, sign: str, bots: Callable[[], Log]
) -> None:
    mask, found = find_scripted(*together(shop, bots()))
    assert mask[:1_500].sum() == 0
    assert mask[1_500:].sum() == found.signs[sign] == 60


def test_a_slow_and_irregular_script_is_not_told_from_a_keen_person(shop: Log) -> None:
    bots = flood("as a person's", first_visitor=1_500)
    assert find_scripted(*together(shop, bots))[1].visitors == 0


def test_a_pause_hides_no_regularity(shop: Log) -> None:
    bots = flood(visitors=1, first_visitor=1_500)
    paused = bots._replace(times=bots.times + (np.arange(185) > 90) * (HOUR_MS // 3))
    assert find_scripted(*together(shop, paused))[1].visitors == 1


def test_many_events_of_one_moment_are_an_order_and_no_rate(shop: Log) -> None:
    lines = Log(np.full(600, 1_500), np.arange(600), np.full(600, shop.times[0]))
    assert find_scripted(*together(shop, lines))[1].visitors == 0


def test_times_laid_out_for_an_order_tell_nothing() -> None:
    visitors = np.repeat(np.arange(200), 60)
    times = np.tile(np.arange(60) * 60_000, 200) + visitors * 7_000
    assert find_scripted(visitors, np.arange(12_000) % 50, times)[1] == ScriptedVisitors()


def test_an_empty_log_has_no_visitors() -> None:
    none = np.empty(0, np.int64)
    mask, found = find_scripted(none, none, none)
    assert (len(mask), found) == (0, ScriptedVisitors())
