"""Every screen in light, in dark and on a phone: its picture, its script, its accessibility."""

import gzip
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page

from tests.screens.conftest import Pages, serious
from tests.screens.fake import STATIC, Fake
from tests.screens.fake_shop import HOSTILE

PICTURES = Path(__file__).parents[2] / "build" / "screens"
LIGHTS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"color_scheme": "light", "width": 360, "height": 780, "has_touch": True},
}
# By name: the address, and what is to be seen before the picture is taken.
SCREENS = {
    "overview": ("/", "All is well"),
    "flow": ("/flow", "412/s"),
    "live": ("/live", "Hoop Dreams"),
    "visitors": ("/visitors", "655"),
    "visitor": ("/visitors/405?item=50", "Stages"),
    "items": ("/items", "Fantasia"),
    "item": ("/items/57?visitor=405", "fell at"),
    "shop": ("/shop", "Trending"),
}


def fits(page: Page) -> bool:
    """Whether the page is no wider than its window."""
    wide, window = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    return bool(wide <= window)


@pytest.mark.parametrize("light", LIGHTS)
@pytest.mark.parametrize("name", SCREENS)
def test_screen(pages: Pages, name: str, light: str) -> None:
    address, seen = SCREENS[name]
    page = pages.open(address, reduced_motion="reduce", **LIGHTS[light])
    page.get_by_text(seen).first.wait_for()
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}-{light}.png", full_page=name not in ("live", "shop"))
    assert fits(page)
    assert serious(page) == []


@pytest.mark.parametrize("name", [name for name in SCREENS if name not in ("visitor", "item")])
def test_an_empty_screen_names_the_command_that_fills_it(
    pages: Pages, fake: Fake, name: str
) -> None:
    fake.empty = True
    page = pages.open(SCREENS[name][0])
    if name == "flow":  # its nodes are there without any record
        page.get_by_text("interactions.v1").first.wait_for()
    elif name != "shop" and name != "items":
        page.locator("code", has_text=re.compile("slipstream (simulate|runs)")).first.wait_for()
    page.screenshot(path=PICTURES / f"{name}-empty.png")


@pytest.mark.parametrize("kind", ["visitors", "items"])
@pytest.mark.parametrize("light", ["light", "phone"])
def test_hostile_ids_and_titles_are_text(pages: Pages, kind: str, light: str) -> None:
    page = pages.open(f"/{kind}/{quote(HOSTILE, safe='')}", **LIGHTS[light])
    page.get_by_text("onmouseover").first.wait_for()
    page.reload()
    page.get_by_text("onmouseover").first.wait_for()
    assert page.evaluate("window.hacked") is None
    assert page.locator("main img").count() == 0
    assert fits(page)
    page.screenshot(path=PICTURES / f"hostile-{kind}-{light}.png")


def test_an_unknown_visitor_and_item_say_so(pages: Pages) -> None:
    pages.expected = ["404"]
    page = pages.open("/visitors/never-seen")
    page.get_by_text("Nothing is known of this visitor").wait_for()
    page = pages.open("/items/nothing-ever")
    page.get_by_text("not in the catalogue").wait_for()


@pytest.mark.parametrize("away", ["features", "serving"])
def test_of_a_peer_that_is_away_its_part_alone_fails(pages: Pages, fake: Fake, away: str) -> None:
    fake.away, pages.expected = {away}, ["503"]
    page = pages.open("/visitors/405")
    page.get_by_text(f"{away} does not answer").first.wait_for()
    there = "By model" if away == "features" else "newest of 12 events"
    page.get_by_text(there).first.wait_for()
    page.get_by_text("one clicked").wait_for()


def loaded(page: Page) -> int:
    """Bytes of script, compressed, that the page has loaded."""
    names = page.evaluate(
        "performance.getEntriesByType('resource').map((one) => new URL(one.name).pathname)"
    )
    scripts = {name for name in names if name.startswith("/assets/") and name.endswith(".js")}
    assert scripts
    return sum(len(gzip.compress((STATIC / name[1:]).read_bytes(), 6)) for name in scripts)


def test_scripts_are_small_enough(pages: Pages) -> None:
    sizes = {}
    for name, (address, seen) in SCREENS.items():
        page = pages.open(address)
        page.get_by_text(seen).first.wait_for()
        sizes[name] = loaded(page)
    print("script by screen, compressed:", json.dumps(sizes))
    assert sizes["overview"] <= 120_000
    assert max(sizes.values()) <= 200_000


def test_the_document_has_no_inline_script_or_style() -> None:
    text = (STATIC / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*src=)", text) == []
    assert re.findall(r"<style|\sstyle=", text) == []
