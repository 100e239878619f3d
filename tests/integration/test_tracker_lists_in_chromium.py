"""A page in a real browser that shows a row of recommendations, which serving answers itself."""

from pathlib import Path
from typing import Any

import uvicorn

from services.serving.app import create_app
from services.serving.settings import ServingSection, ServingSettings
from slipstream.broker.producer import OutgoingRecord
from slipstream.chassis.server import server_config
from slipstream.chassis.settings import HttpSettings, KafkaSettings, PeerSettings, RedisSettings
from slipstream.contracts.access import BROWSER_SCOPES
from slipstream.contracts.topics import ACCESS_KEYS
from slipstream.stores.online import OnlineStore
from slipstream_cli.local.processes import free_port
from tests.integration import test_serving, test_tracker_in_chromium
from tests.integration.ingestion_process import ingestion_process
from tests.integration.test_serving import publish, remember
from tests.integration.test_tracker_in_chromium import Chromium
from tests.unit.chassis.access.key_records import key_record
from tests.unit.serving.fakes import ITEMS, item_record
from tests.waiting import running

pytestmark = test_tracker_in_chromium.pytestmark
chromium, shop = test_tracker_in_chromium.chromium, test_tracker_in_chromium.shop
bundle, training = test_serving.bundle, test_serving.training
training_url = test_serving.training_url

KEY = "everyone-can-see-this-key"
PAGE = """<!doctype html><meta charset="utf-8"><title>A shop</title>
<script>
  window.slipstream = window.slipstream || [];
  slipstream.push(['load', { writeKey: '%(key)s', serving: '%(serving)s' }], ['page']);
  function showRow() {
    slipstream.recommend({ n: 3, fields: ['title'] }).then((slate) => {
      row.dataset.slipstreamRecommendation = slate.recommendation_id;
      row.replaceChildren(...slate.items.map((item) => {
        const tile = document.createElement('a');
        Object.assign(tile, { href: item.item_id, textContent: item.attributes.title });
        tile.dataset.slipstreamItem = item.item_id;
        return tile;
      }));
    });
  }
</script>
<script async src="%(ingestion)s/v1/slipstream.js"></script>
<div id="row"></div>
"""
# Asks for a visitor's list with the secret of this browser; says what the page can read.
ASK = """return fetch(`%s/v1/recommendations/%s`, { headers: {
  Authorization: 'Bearer %s', 'X-Slipstream-Proof': localStorage.slipstream_secret } })
  .then((answer) => answer.json()).then((body) => body.code || body.user_id, (error) => error.name);
"""


def test_a_page_shows_a_row_of_its_own_visitor_and_of_no_other(
    broker: KafkaSettings,
    redis_settings: RedisSettings,
    namespace: str,
    chromium: Chromium,
    shop: tuple[Path, str],
    training_url: str,
    tmp_path: Path,
) -> None:
    folder, address = shop
    key = key_record(KEY, sorted(BROWSER_SCOPES), name="page", browser=True, origins=[address])
    publish(broker, namespace, OutgoingRecord(ACCESS_KEYS, key.digest, key))
    store = OnlineStore(redis_settings, namespace)
    store.put_catalog(
        [item_record(each, attributes={"title": f"Title of {each}"}) for each in ITEMS]
    )
    store.close()
    remember(redis_settings, namespace, "ada", "item-03", "item-04")
    settings = ServingSettings(
        namespace=namespace,
        kafka=broker,
        redis=redis_settings,
        http=HttpSettings(port=free_port()),
        peers=PeerSettings(training_url=training_url),
        serving=ServingSection(
            cache_dir=tmp_path / "cache", redis_timeout_s=10, cors_origins=address
        ),
    )
    serving = f"http://127.0.0.1:{settings.http.port}"
    server = uvicorn.Server(server_config(create_app(settings), settings, "serving"))
    with (
        running(server),
        ingestion_process(broker, redis_settings, namespace, cors_origins=address) as ingestion,
    ):

        def ask(user_id: str) -> Any:
            return chromium.run(ASK % (serving, user_id, KEY))

        page = PAGE % {"key": KEY, "serving": serving, "ingestion": ingestion}
        (folder / "index.html").write_text(page)
        chromium.open(f"{address}/index.html")
        device = chromium.until("slipstream.anonymousId && slipstream.anonymousId()")
        remember(redis_settings, namespace, device, "item-03", "item-04", "item-05")
        chromium.run("showRow()")
        titles = chromium.until(
            "row.childElementCount && [...row.children].map((tile) => tile.textContent)"
        )
        assert len(titles) == 3 and titles[0] == "Title of item-06"
        assert ask(device) == device
        # Ids of others: a user's, and one that another browser made.
        assert ask("ada") == ask("00000000-0000-4000-8000-000000000000") == "unproven_visitor"
        # The same page under another name is of an origin that is not listed.
        chromium.open(f"{address.replace('127.0.0.1', 'localhost')}/index.html")
        other = chromium.until("slipstream.anonymousId && slipstream.anonymousId()")
        assert other != device
        assert ask(other) == "TypeError"
