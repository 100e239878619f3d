"""Simulated shoppers who visit running services, in the foreground or while a command waits."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

from slipstream_cli.local.terminal import Terminal

if TYPE_CHECKING:
    from slipstream.datasets.live_visits import LiveError, LiveVisits
    from slipstream.datasets.living_shop import LivingShop
    from slipstream.datasets.living_truth import Plan
    from slipstream_cli.local.plan import Plan as StackPlan

# Calls to ingestion a second for each shopper: a list every ten seconds, with what follows.
CALLS_PER_S: Final = 0.4
# Visits at a time.
_MOST_AT_ONCE: Final = 100
# Longest wait for shoppers to end their present lists.
_END_S: Final = 10.0


async def visit(
    shop: "LivingShop",
    plan: "Plan",
    ingestion: str,
    write_key: str,
    serving: str,
    token: str,
    tell: Callable[[str], None],
    began: Callable[["LiveVisits"], None],
) -> "tuple[LiveVisits, LiveError | None]":
    """Visit until the plan's end, a stop or a failure, which is returned.

    Args:
        token: Token for serving; empty for none.
        tell: Takes a line of progress.
        began: Called in the event loop with the visits, which it may stop.
    """
    import httpx

    from slipstream.chassis.client import Bearer
    from slipstream.datasets.live_visits import LiveError, LiveVisits

    limits = httpx.Limits(max_connections=plan.concurrency)
    async with (
        httpx.AsyncClient(
            base_url=ingestion, auth=(write_key, ""), timeout=10, limits=limits
        ) as to_ingestion,
        httpx.AsyncClient(
            base_url=serving, auth=Bearer(token), timeout=10, limits=limits
        ) as to_serving,
    ):
        # Ingestion knows the ids of the last day's messages, and a seed may be used again.
        prefix = f"sim-{time.time_ns():x}"
        visiting = LiveVisits(shop, plan, to_ingestion, to_serving, prefix, tell)
        began(visiting)
        try:
            await visiting.run()
        except LiveError as error:
            return visiting, error
    return visiting, None


def course_of(shop: "LivingShop", placement: str = "") -> "Plan":
    """The course of all shoppers, until they are stopped. The services have the shop's items."""
    from slipstream.datasets.living_truth import Plan

    return Plan(
        shop.shoppers * CALLS_PER_S,
        placement=placement,
        concurrency=min(shop.shoppers, _MOST_AT_ONCE),
        sends_items=False,
    )


@contextmanager
def at_work(
    stack: "StackPlan", shop: "LivingShop", terminal: Terminal, placement: str = ""
) -> Iterator[None]:
    """Within the block, all shoppers of a shop visit a local stack, in a thread.

    Their lists are of the placement. A failure ends the visits, and the terminal shows it.
    """
    plan = course_of(shop, placement)
    begun: list[tuple[LiveVisits, asyncio.AbstractEventLoop]] = []
    stopped = Event()

    def began(visiting: "LiveVisits") -> None:
        begun.append((visiting, asyncio.get_running_loop()))
        if stopped.is_set():
            visiting.stop()

    def run() -> None:
        from slipstream_cli.local.plan import API_TOKEN

        token = stack.environment.get(API_TOKEN, "")
        urls = stack.urls
        _, failure = asyncio.run(
            visit(
                *(shop, plan, urls["ingestion"], stack.write_key, urls["serving"], token),
                *(terminal.progress, began),
            )
        )
        if failure is not None:
            terminal.line(f"the shoppers have left: {failure}")

    thread = Thread(target=run, name="shoppers", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        for visiting, loop in begun:
            if not loop.is_closed():
                loop.call_soon_threadsafe(visiting.stop)
        thread.join(_END_S)
