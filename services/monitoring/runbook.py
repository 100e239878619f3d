"""The runbook: its pages, which are a part of the program, and the addresses of them."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

_PAGES: Final = Path(__file__).parent / "runbook_pages"
_NAMED: Final = "docs/runbook/"
# Path of the pages at monitoring.
PATH: Final = "/runbook"


@cache
def pages() -> Mapping[str, str]:
    """The text of every page, in Markdown, by its name."""
    return {page.stem: page.read_text("utf-8") for page in _PAGES.glob("*.md")}


def address(runbook: str, base: str) -> str:
    """The address below `base` of a page that a rule names; any other text stays as it is."""
    return f"{base}/{runbook.removeprefix(_NAMED)}" if runbook.startswith(_NAMED) else runbook


def page(runbook: str) -> str:
    """The name of the page that a rule names; of any other text, that of all open alerts."""
    return runbook.removeprefix(_NAMED) if runbook.startswith(_NAMED) else "SlipstreamAlertOpen.md"
