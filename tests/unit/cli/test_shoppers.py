"""Shoppers who visit a stack while a command waits: they come, leave at the end, and tell why."""

import asyncio
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipstream.datasets.live_visits import LiveError
from slipstream.datasets.living_shop import make_shop
from slipstream_cli import shoppers
from slipstream_cli.local.plan import API_TOKEN, make_plan
from slipstream_cli.local.terminal import Terminal
from slipstream_cli.shoppers import CALLS_PER_S, at_work

SHOP = make_shop(0, 50, 20)


class Visiting:
    """Visits that go on until they are stopped."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.stop = self.ended.set


def visit_of(begun: list[tuple[Any, ...]], failure: LiveError | None = None) -> Callable[..., Any]:
    async def visit(*arguments: Any) -> tuple[Any, LiveError | None]:
        visiting = Visiting()
        arguments[-1](visiting)
        begun.append((visiting, *arguments))
        if failure is None:
            await visiting.ended.wait()
        return visiting, failure

    return visit


def test_shoppers_visit_for_as_long_as_the_block_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    begun: list[tuple[Any, ...]] = []
    monkeypatch.setattr(shoppers, "visit", visit_of(begun))
    stack, said = make_plan(tmp_path, {API_TOKEN: "secret"}, any_ports=True), io.StringIO()
    with at_work(stack, SHOP, Terminal(said), "home"):
        while not begun:
            time.sleep(0.001)
        assert not begun[0][0].ended.is_set()
    ((visiting, shop, plan, ingestion, key, serving, token, *_),) = begun
    assert visiting.ended.is_set()
    assert (shop, key, token) == (SHOP, "dev", "secret")
    assert (ingestion, serving) == (stack.urls["ingestion"], stack.urls["serving"])
    assert (plan.rate, plan.concurrency, plan.seconds) == (50 * CALLS_PER_S, 50, None)
    assert not plan.sends_items, "the demo has sent them"
    assert plan.placement == "home"
    assert said.getvalue() == ""


def test_a_failure_ends_the_visits_and_not_the_block(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shoppers, "visit", visit_of([], LiveError("serving answers 401")))
    said = io.StringIO()
    with at_work(make_plan(tmp_path, {}, any_ports=True), SHOP, Terminal(said)):
        pass
    assert "the shoppers have left: serving answers 401" in said.getvalue()
