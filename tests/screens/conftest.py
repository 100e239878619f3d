"""Fixtures of the console's screens: a stand-in for monitoring, and pages in Debian's Chromium."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from bench.chromium import chromium, context_of
from slipstream_cli.local.processes import free_port
from tests.screens.fake import Fake, Server

AXE = Path(__file__).parents[2] / "console" / "node_modules" / "axe-core" / "axe.min.js"
# Keeps what the page violates of its policy, from before its first script.
VIOLATIONS = """
window.violations = [];
document.addEventListener('securitypolicyviolation', (event) => {
  violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
});
"""

collect_ignore_glob = [] if os.environ.get("SCREENS") else ["test_*.py"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with Server(free_port()) as running:
        yield running


@pytest.fixture
def fake(server: Server) -> Fake:
    """The state of the stand-in, as new."""
    server.fake.__init__()  # type: ignore[misc]
    return server.fake


class Pages:
    """Opens pages, and keeps what their consoles say.

    Attributes:
        faults: Errors of the consoles, and exceptions that no page caught.
        expected: Texts that a test expects in such errors.
    """

    def __init__(self, browser: Browser, server: Server) -> None:
        self._browser, self._url = browser, server.url
        self._contexts: list[BrowserContext] = []
        self.opened: list[Page] = []
        self.faults: list[str] = []
        self.expected: list[str] = []

    def open(self, path: str, *, width: int = 1280, height: int = 800, **context: Any) -> Page:
        made = context_of(self._browser, viewport={"width": width, "height": height}, **context)
        made.add_init_script(VIOLATIONS)
        page = made.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on(
            "console",
            lambda said: self.faults.append(said.text) if said.type == "error" else None,
        )
        self._contexts.append(made)
        self.opened.append(page)
        page.goto(self._url + path)
        page.locator("h1").first.wait_for(state="attached")
        return page

    def close(self) -> list[str]:
        """Close all pages; returns what they did that they may not."""
        found = [fault for fault in self.faults if not any(text in fault for text in self.expected)]
        for page in self.opened:
            found += page.evaluate("window.violations")
        for context in self._contexts:
            context.close()
        return found


@pytest.fixture
def pages(browser: Browser, server: Server, fake: Fake) -> Iterator[Pages]:
    opened = Pages(browser, server)
    yield opened
    assert opened.close() == []


def serious(page: Page) -> list[str]:
    """What axe-core finds serious or critical."""
    page.evaluate(AXE.read_text())
    found = page.evaluate(
        "axe.run(document, {resultTypes: ['violations']}).then((done) => done.violations)"
    )
    return [
        f"{each['id']}: {node['html'][:160]} {node['failureSummary'][:300]}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"][:3]
    ]
