"""What screens do: judge the whole, break, come back, go by keyboard, sign in, change by clicks."""

import re

import pytest
from playwright.sync_api import Browser, expect

from bench import shop
from bench.measurements import BenchmarkError
from tests.screens.conftest import Pages, serious
from tests.screens.fake import Fake, Server
from tests.screens.fake_shop import ITEMS
from tests.waiting import until


def test_the_sentence_names_the_heaviest_and_its_runbook(pages: Pages, fake: Fake) -> None:
    page = pages.open("/")
    verdict = page.locator(".verdict")
    expect(verdict).to_contain_text("All is well: 5 services answer")
    fake.broken = True
    expect(verdict).to_contain_text("Service down: serving is not ready: kafka", timeout=15_000)
    link = verdict.get_by_role("link", name="/runbook/service_down.md")
    expect(link).to_have_attribute("href", "/runbook/service_down.md")
    expect(page).to_have_title(re.compile(r"^\(1\) Overview"))


def test_what_a_person_changed_is_among_what_changed_lately(pages: Pages) -> None:
    page = pages.open("/")
    entry = page.locator("li.audit")
    expect(entry).to_contain_text("set placement home")
    expect(entry).to_contain_text("by anna")


def test_a_broken_stream_says_so_comes_back_and_shows_the_gap(pages: Pages, fake: Fake) -> None:
    pages.expected = ["503"]
    page = pages.open("/live")
    rows = page.locator("ol.card > li")
    rows.nth(5).wait_for()
    fake.stream_down = True
    page.get_by_text("The stream is broken").wait_for()
    expect(page.locator("ol.card")).to_have_class(re.compile("stale"))
    fake.stream_down = False
    page.get_by_text("Nothing is known of").wait_for()
    expect(page.locator("ol.card")).not_to_have_class(re.compile("stale"))
    page.locator("header").get_by_text("after a gap").wait_for()


def test_figures_that_are_old_turn_grey_and_say_of_when_they_are(pages: Pages, fake: Fake) -> None:
    pages.expected = ["500"]
    page = pages.open("/")
    page.get_by_text("All is well").wait_for()
    page.route("**/v1/overview", lambda route: route.fulfill(status=500, json={"detail": "no"}))
    expect(page.locator(".verdict")).to_contain_text("Out of date: no", timeout=15_000)
    expect(page.locator("section", has_text="Model in service").locator(".stale")).to_be_visible()


def test_records_are_chosen_paused_and_opened_by_keyboard(pages: Pages) -> None:
    page = pages.open("/live")
    page.get_by_label("Kind").fill("click")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/live\?kind=click$"))
    page.locator("ol.card > li").nth(2).wait_for()
    assert set(page.locator("ol.card b").all_inner_texts()) == {"click"}
    page.get_by_role("button", name="Pause").press("Enter")
    page.get_by_role("button", name=re.compile(r"Go on \(")).wait_for()
    page.locator("button.open").first.press("Enter")
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("received by ingestion").wait_for()
    dialog.get_by_text("applied by features").wait_for()
    assert serious(page) == []
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.reload()
    expect(page.get_by_label("Kind")).to_have_value("click")


def test_a_dead_letter_tells_its_reason(pages: Pages) -> None:
    page = pages.open("/live?kind=dead_letter")
    page.locator("button.open").first.click()
    page.get_by_role("dialog").get_by_text("9 days in the future").first.wait_for()


def test_all_screens_are_reached_by_keyboard_alone(pages: Pages) -> None:
    page = pages.open("/")
    reached = set()
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.getAttribute('href')"))
    assert {"/flow", "/live", "/visitors", "/items", "/shop"} <= reached
    page.get_by_role("link", name="Visitors").press("Enter")
    expect(page.get_by_role("heading", name="Visitors")).to_be_focused()
    page.get_by_label("Visitor’s id").fill("405")
    page.keyboard.press("Enter")
    page.get_by_text("The list now").wait_for()
    page.go_back()
    page.get_by_text("Active last").wait_for()


def test_a_topic_of_the_flow_opens_its_records(pages: Pages) -> None:
    page = pages.open("/flow")
    page.locator(".svelte-flow__node", has_text="interactions.v1").click()
    expect(page).to_have_url(re.compile(r"/live\?topic=interactions\.v1$"))
    expect(page.get_by_label("Topic")).to_have_value("interactions.v1")


def test_why_a_visitor_does_not_see_an_item(pages: Pages) -> None:
    page = pages.open("/visitors/405")
    page.get_by_label("Item", exact=True).fill("contact")
    page.get_by_role("button", name="Contact").click()
    page.get_by_text("Without a placement, it fell at rules").wait_for()
    page.get_by_text("“in stock”").wait_for()


def test_why_an_item_is_not_seen_is_asked_of_a_placement(pages: Pages) -> None:
    contact = next(item for item, known in ITEMS.items() if known["title"].startswith("Contact"))
    page = pages.open(f"/items/{contact}")
    page.get_by_label("Placement").select_option("home")
    page.get_by_label("Visitor’s id").fill("405")
    page.get_by_role("button", name="Ask").click()
    page.get_by_text("In home, it fell at rules").wait_for()
    page.get_by_text("of placement home").wait_for()
    expect(page).to_have_url(re.compile(r"\?visitor=405&placement=home$"))
    page.reload()
    page.get_by_text("In home, it fell at rules").wait_for()
    expect(page.get_by_label("Placement")).to_have_value("home")


def test_sign_in_and_sign_out(pages: Pages, fake: Fake) -> None:
    fake.needed, pages.expected = True, ["401"]
    page = pages.open("/visitors/405")
    field = page.get_by_label("API token, access key or JWT")
    expect(field).to_be_focused()
    assert serious(page) == []
    field.fill("wrong")
    page.keyboard.press("Enter")
    page.get_by_text("unknown, expired or revoked").wait_for()
    field.fill("right")
    page.keyboard.press("Enter")
    page.get_by_text("The list now").wait_for()
    assert page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 0]
    page.get_by_role("button", name="Sign out").click()
    field.wait_for()
    # A session that ends elsewhere asks again.
    field.fill("right")
    page.keyboard.press("Enter")
    page.get_by_text("The list now").wait_for()
    fake.signed_in = False
    field.wait_for(timeout=15_000)


def test_a_click_in_the_shop_changes_the_row_and_is_timed(pages: Pages, fake: Fake) -> None:
    page = pages.open("/shop")
    row = page.locator("[data-slipstream-list=for-you]")
    row.locator("[data-item]").nth(3).wait_for()
    before = row.locator("b").all_inner_texts()
    chosen = row.locator("[data-item]").nth(3).get_attribute("data-item")
    row.locator("[data-item]").nth(3).click()
    took = page.locator("aside [data-ms]")
    took.wait_for()
    assert float(took.get_attribute("data-ms") or 0) > 0
    assert row.locator("b").all_inner_texts() != before
    (click,) = [event for event in fake.events if event.get("event") == "Product Clicked"]
    assert click["properties"]["product_id"] == chosen
    assert click["properties"]["position"] == 3
    assert click["properties"]["recommendation_id"].startswith("slate-")
    page.get_by_role("heading", name="Similar").wait_for()


def test_the_benchmark_clicks_as_one_new_visitor_and_reads_the_times_that_the_page_shows(
    browser: Browser, server: Server, fake: Fake
) -> None:
    timed = shop.click_around(browser, server.url, "", 3)
    assert [click.moved for click in timed] == [True] * 3
    # Both end with the same frame, and the page's figure begins with its own handling of the click.
    assert all(0 < click.shown_ms < 10_000 and click.drawn_ms > 0 for click in timed)
    clicked = [event for event in fake.events if event.get("event") == "Product Clicked"]
    assert len({event["anonymousId"] for event in clicked}) == 1
    assert [event["properties"]["position"] for event in clicked] == [0, 5, 10]
    fake.needed, fake.signed_in = True, False
    with pytest.raises(BenchmarkError, match="monitoring answered 401"):
        shop.click_around(browser, server.url, "wrong", 1)
    assert shop.click_around(browser, server.url, "right", 1)


def test_a_history_by_hand_sends_nothing(pages: Pages, fake: Fake) -> None:
    page = pages.open("/shop")
    page.locator("[data-item]").first.wait_for()
    page.get_by_title("Who visits").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("likes").first.wait_for()
    assert dialog.locator("button.choice").count() == 4
    page.get_by_label("Add an item").fill("alien")
    dialog.get_by_role("button", name="Alien").click()
    dialog.get_by_text("Remove").wait_for()
    assert serious(page) == []
    page.keyboard.press("Escape")
    row = page.locator("section", has=page.get_by_role("heading", name="For you"))
    assert row.get_attribute("data-slipstream-list") is None
    page.locator("[data-item]").nth(1).click()
    page.locator("aside [data-ms]").wait_for()
    page.get_by_text("Stages of the preview").wait_for()
    page.wait_for_timeout(400)  # the tracker's interval
    # Impressions may be of the row before.
    assert {event.get("event") for event in fake.events} <= {None, "Product List Viewed"}


def test_another_visitors_tastes_come_as_views(pages: Pages, fake: Fake) -> None:
    page = pages.open("/shop")
    page.locator("[data-item]").first.wait_for()
    page.get_by_title("Who visits").click()
    page.locator("button.choice").nth(1).click()
    page.get_by_role("button", name="With the tastes of").wait_for()

    def views() -> list[str]:
        """The devices of the views that came."""
        viewed = (event for event in fake.events if event.get("event") == "Product Viewed")
        return [event["anonymousId"] for event in viewed]

    until(lambda: len(views()) == 12, "the views did not come", 20)
    page.get_by_text("Sending the history").wait_for(state="detached")
    assert len(views()) == 12
    assert len(set(views())) == 1


def test_a_box_of_the_flow_shows_its_own_edges(pages: Pages) -> None:
    page = pages.open("/flow")
    page.locator(".svelte-flow__edge").first.wait_for(state="attached")
    assert page.locator(".svelte-flow__edge.faint").count() == 0
    page.locator(".svelte-flow__node", has_text="Features").first.hover()
    page.locator(".svelte-flow__edge.faint").first.wait_for(state="attached")
    assert page.locator(".svelte-flow__edge.front").count() > 0


def test_reasons_are_no_stage_of_a_visitors_list(pages: Pages) -> None:
    page = pages.open("/visitors/405")
    stages = page.get_by_label("Stages of this list")
    stages.wait_for()
    assert "reasons" not in stages.inner_text()
    page.get_by_text("is the slowest").wait_for()
