"""The tracker in a real browser, on a page of another origin, against a running ingestion."""

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from slipstream.chassis.settings import KafkaSettings, RedisSettings
from slipstream.contracts.events import Interaction
from slipstream.contracts.topics import INTERACTIONS, PEOPLE
from slipstream.contracts.vocabulary import MERGED_INTO
from slipstream_cli.local.processes import free_port
from tests.integration.ingestion_process import KEY, ingestion_process
from tests.integration.test_ingestion import records

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
DRIVER = shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="no Chromium with its driver; Debian, Ubuntu: apt install chromium chromium-driver",
)

# Ten tall tiles, of which the window shows the first two; the first is a link to the next page.
PAGE = """<!doctype html><meta charset="utf-8"><title>Kettles</title>
<script>
  window.slipstream = window.slipstream || [];
  slipstream.push(
    ['load', {{ writeKey: '{key}' }}],
    ['page', 'Kettles'],
    ['track', 'Products Searched', {{ query: 'tea' }}]
  );
</script>
<script async src="{host}/v1/slipstream.js"></script>
<style>* {{ margin: 0 }} a {{ display: block; height: 300px }}</style>
<div id="slate" data-slipstream-recommendation="slate-1"></div>
<script>
  // Like recommendations that arrive after the page.
  setTimeout(() => {{
    for (let n = 0; n < 10; n++) {{
      const tile = document.createElement('a');
      Object.assign(tile, {{ id: 'tile-' + n, href: 'next.html', textContent: 'item ' + n }});
      tile.setAttribute('data-slipstream-item', 'item-' + n);
      slate.append(tile);
    }}
  }}, 200);
</script>
"""

# Brings two more tiles into view. The tracker observed them first, so that its timers end first.
SCROLL = """
new IntersectionObserver((entries) => entries.forEach((entry) => {
  if (entry.intersectionRatio >= 0.5) setTimeout(() => { window.ripe = true; }, 1000);
}), { threshold: 0.5 }).observe(document.getElementById('tile-6'));
document.getElementById('tile-5').scrollIntoView();
"""


class Chromium:
    """A headless browser under WebDriver.

    Its user agent does not say headless, since events of bots are rejected.
    """

    def __init__(self, port: int, profile: Path) -> None:
        self._driver = subprocess.Popen(
            [str(DRIVER), f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        deadline = time.monotonic() + 60
        while True:
            try:
                self._http.get("/status")
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        agent = (
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
            "Chrome/140.0 Safari/537.36"
        )
        arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-quic",
            "--window-size=800,700",
        ]
        options = {
            "binary": CHROMIUM,
            "args": [*arguments, f"--user-agent={agent}", f"--user-data-dir={profile}"],
        }
        answer = self._post(
            "/session", {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        )
        self._session = f"/session/{answer['sessionId']}"

    def open(self, url: str) -> None:
        self._post(f"{self._session}/url", {"url": url})

    def run(self, script: str) -> Any:
        return self._post(f"{self._session}/execute/sync", {"script": script, "args": []})

    def click(self, selector: str) -> None:
        elements = self._post(
            f"{self._session}/element", {"using": "css selector", "value": selector}
        )
        (element,) = elements.values()
        self._post(f"{self._session}/element/{element}/click", {})

    def until(self, script: str) -> Any:
        """The first answer of the script that is true."""
        deadline = time.monotonic() + 60
        while not (answer := self.run(f"return {script}")):
            assert time.monotonic() < deadline, script
            time.sleep(0.05)
        return answer

    def close(self) -> None:
        self._http.delete(self._session)
        self._http.close()
        self._driver.terminate()
        self._driver.wait(60)

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        answer = self._http.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["value"]


@pytest.fixture
def chromium(tmp_path: Path) -> Iterator[Chromium]:
    browser = Chromium(free_port(), tmp_path / "profile")
    yield browser
    browser.close()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder of pages, and the address that serves them."""
    folder = tmp_path / "shop"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def interactions(kafka: KafkaSettings, namespace: str, count: int) -> list[Interaction]:
    return [message.record for message in records(kafka, namespace, INTERACTIONS, count)]


def test_a_visit_arrives_as_it_was(
    broker: KafkaSettings,
    redis_settings: RedisSettings,
    namespace: str,
    chromium: Chromium,
    shop: tuple[Path, str],
) -> None:
    folder, address = shop
    with ingestion_process(broker, redis_settings, namespace, cors_origins=address) as url:
        page = PAGE.format(host=url, key=KEY)
        (folder / "index.html").write_text(page)
        (folder / "next.html").write_text("<!doctype html><title>Next</title>")
        chromium.open(f"{address}/index.html")
        device = chromium.until("slipstream.anonymousId && slipstream.anonymousId()")
        chromium.run("slipstream.identify('ada', {country: 'NZ'})")
        seen = interactions(
            broker, namespace, 4
        )  # the page, the search, and two tiles that were in view for a second
        assert sorted((e.event_type, e.item_id or "", e.position) for e in seen) == [
            ("impression", "item-0", 0),
            ("impression", "item-1", 1),
            ("page", "", None),
            ("search", "", None),
        ]
        chromium.run(SCROLL)
        chromium.until("window.ripe")  # two more tiles were in view for a second
        chromium.run("slipstream.track('Last Words'); document.getElementById('tile-5').click()")
        chromium.until("document.title === 'Next'")

        everything = interactions(broker, namespace, 8)
        later = [e for e in everything if e.event_id not in {s.event_id for s in seen}]
        assert sorted((e.event_type, e.item_id or "", e.user_id) for e in later) == [
            ("click", "item-5", "ada"),
            ("impression", "item-5", "ada"),
            ("impression", "item-6", "ada"),
            ("last_words", "", "ada"),
        ]
        assert {e.recommendation_id for e in everything if e.item_id} == {"slate-1"}
        assert {e.anonymous_id for e in everything} == {device}
        assert len({e.session_id for e in everything}) == 1
        assert {
            message.record.attributes.get(MERGED_INTO)
            for message in records(broker, namespace, PEOPLE, 2)
        } == {None, "ada"}


def test_nothing_is_stored_before_consent(
    broker: KafkaSettings,
    redis_settings: RedisSettings,
    namespace: str,
    chromium: Chromium,
    shop: tuple[Path, str],
) -> None:
    folder, address = shop
    with ingestion_process(broker, redis_settings, namespace, cors_origins=address) as url:
        page = PAGE.format(host=url, key=KEY).replace(
            "{ writeKey:", "{ requireConsent: true, writeKey:"
        )
        (folder / "index.html").write_text(page)
        chromium.open(f"{address}/index.html")
        chromium.until("!!slipstream.anonymousId")
        time.sleep(1.5)
        assert chromium.run(
            "return [slipstream.anonymousId(), localStorage.length, document.cookie]"
        ) == [None, 0, ""]
        chromium.run("slipstream.consent(true)")
        assert {e.event_type for e in interactions(broker, namespace, 4)} == {
            "page",
            "search",
            "impression",
        }
        chromium.run("slipstream.consent(false)")
        assert (
            chromium.run("return JSON.stringify(localStorage)") == '{"slipstream_consent":"denied"}'
        )
