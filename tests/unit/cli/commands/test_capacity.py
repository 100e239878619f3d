from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from slipstream.contracts.prices import Prices
from slipstream_cli.__main__ import cli
from slipstream_cli.commands import capacity
from slipstream_cli.commands.capacity import (
    ROOM,
    Shop,
    lake_gb,
    monthly_cost,
    page_rows,
    sizes,
)

SHOPS = (1_000, 100_000, 10_000_000)
PAGE = Path(__file__).parents[4] / "docs" / "capacity.md"


def test_processes_carry_the_peak_with_room() -> None:
    of = {size.part: size for size in sizes(Shop(10_000_000))}
    peak = 10_000_000 * 20 / 86_400 * 4
    assert peak < of["ingestion"].processes * capacity.INGESTION.value * ROOM
    assert peak > (of["ingestion"].processes - 1) * capacity.INGESTION.value * ROOM
    assert of["Redis"].memory_gb > 2 * 100_100_000 * capacity.STATE.value / 1e9


def test_a_small_shop_has_two_of_what_answers_and_one_of_what_leads() -> None:
    of = {size.part: size.processes for size in sizes(Shop(10))}
    assert of["serving"] == of["features"] == of["ingestion"] == of["Redis"] == 2
    assert of["monitoring"] == of["training"] == 1


def test_monitoring_is_full_by_its_consumer_at_the_peak_or_by_counting_over_the_day() -> None:
    steady, peaked = (
        next(size for size in sizes(Shop(6_000_000, peak=peak)) if size.part == "monitoring")
        for peak in (0.5, 12)
    )
    records_s = 6_000_000 * 30 / 86_400
    assert steady.used == pytest.approx(records_s / capacity.COUNTING.value / ROOM)
    assert peaked.used is not None and steady.used is not None
    assert peaked.used > 1 / ROOM > steady.used
    assert peaked.cores == pytest.approx(1.0 + records_s / capacity.COUNTING.value)


def test_credits_fill_the_disk_of_sql() -> None:
    disk = {number: sizes(Shop(number))[-1].disk_gb for number in (10, 10_000_000)}
    assert disk[10] == pytest.approx(20, abs=0.001)
    assert disk[10_000_000] == pytest.approx(20 + 330_000_000 * capacity.CREDIT_BYTES.value / 1e9)


@pytest.mark.parametrize("field", ["events", "lists", "credited", "known", "peak", "lake_days"])
def test_more_of_anything_never_costs_less(field: str) -> None:
    shop = Shop(1_000_000)
    more = replace(shop, **{field: 3 * getattr(shop, field)})
    assert monthly_cost(more) >= monthly_cost(shop)
    assert lake_gb(more) >= lake_gb(shop)


def test_the_page_has_the_tables_and_every_figure_with_its_command() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for number in SHOPS:
        assert page_rows(Shop(number), Prices()) in page
    figures = [it for it in vars(capacity).values() if isinstance(it, capacity.Figure)]
    assert len(figures) > 10
    for figure in figures:
        assert figure.what in page
        assert figure.command in page


def test_the_command_takes_the_traffic_of_ones_own_shop() -> None:
    shown = CliRunner().invoke(
        cli, ["capacity", "--daily-visitors", "50000", "--events", "8", "--lists", "3"]
    )
    assert shown.exit_code == 0, shown.output
    assert "50,000 visitors a day" in shown.output
    assert "a month" in shown.output
