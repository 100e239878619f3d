"""Debian's Chromium with Playwright, for the benchmark of the shop and the tests of the screens."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from bench.measurements import BenchmarkError

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext

# Events of headless browsers are taken for those of bots.
_AGENT: Final = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0"
)
_ARGUMENTS: Final = ["--no-sandbox", "--disable-background-networking", "--disable-dev-shm-usage"]


def executable() -> str:
    """Return the path of Chromium.

    Raises:
        BenchmarkError: Chromium or Playwright is missing; the text says how to install it.
    """
    if find_spec("playwright") is None:
        raise BenchmarkError("no Playwright; make install, or: .venv/bin/pip install playwright")
    path = shutil.which("chromium")
    if path is None:
        raise BenchmarkError("no Chromium; Debian, Ubuntu: apt install chromium")
    return path


@contextmanager
def chromium() -> "Iterator[Browser]":
    """Run Chromium for the block.

    Raises:
        BenchmarkError: As of `executable`, or a page did not do what was waited for.
    """
    path = executable()
    from playwright.sync_api import Error, sync_playwright

    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
            yield browser
            browser.close()
        except Error as error:
            raise BenchmarkError(f"Chromium: {error.message}") from error


def context_of(browser: "Browser", **options: Any) -> "BrowserContext":
    """Make a browser context of a person's, with the options of Playwright's `new_context`."""
    return browser.new_context(user_agent=_AGENT, **options)
