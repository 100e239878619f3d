"""Segment's browser SDK, as it comes from the npm registry, on a page in Chromium."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from slipstream.chassis.settings import KafkaSettings, RedisSettings
from slipstream.contracts.topics import PEOPLE
from tests.integration import test_tracker_in_chromium
from tests.integration.ingestion_process import KEY, ingestion_process
from tests.integration.test_ingestion import records
from tests.integration.test_segment_node import FOLDER
from tests.integration.test_tracker_in_chromium import Chromium, interactions

SDK = FOLDER / "node_modules" / "@segment" / "analytics-next" / "dist" / "umd"
chromium, shop = test_tracker_in_chromium.chromium, test_tracker_in_chromium.shop

pytestmark = [
    test_tracker_in_chromium.pytestmark,
    pytest.mark.skipif(
        not SDK.exists(), reason="@segment/analytics-next is not installed: make node-sdk"
    ),
]

PAGE = """<!doctype html><meta charset="utf-8"><title>Kettles</title>
<script src="sdk/index.js"></script>
<script>
  const [settings, options] = {load};
  window.analytics = AnalyticsNext.AnalyticsBrowser.load(settings, options);
  analytics.on('error', (fault) => {{ window.fault = String(fault.reason || fault) }});
  analytics.page('Kettles');
  analytics.track('Product Viewed', {{ product_id: 'kettle', price: 19.9 }});
  analytics.identify('ada', {{ country: 'NZ' }});
  analytics.track('Product Added', {{ product_id: 'kettle' }});
</script>
"""
# Addresses that the page has asked, with the statuses that it got.
ASKED = """performance.getEntriesByType('resource').filter((one) => one.name.includes('/v1/'))
.map((one) => [new URL(one.name).pathname, one.responseStatus])"""


@pytest.mark.parametrize("by", ["cdnURL", "apiHost"])
def test_every_call_of_the_unmodified_sdk_arrives(
    broker: KafkaSettings,
    redis_settings: RedisSettings,
    namespace: str,
    chromium: Chromium,
    shop: tuple[Path, str],
    by: str,
) -> None:
    folder, address = shop
    shutil.copytree(SDK, folder / "sdk")
    with ingestion_process(broker, redis_settings, namespace, cors_origins=address) as url:
        given: list[dict[str, Any]] = [{"writeKey": KEY, "cdnURL": url}, {}]
        if by == "apiHost":  # with settings of the page's own, which have the SDK count its calls
            own = {"integrations": {"Segment.io": {"apiKey": KEY}}, "metrics": {"flushTimer": 100}}
            api = {"apiHost": url.removeprefix("http://") + "/v1", "protocol": "http"}
            given = [
                {"writeKey": KEY, "cdnSettings": own},
                {"integrations": {"Segment.io": api}},
            ]
        (folder / "index.html").write_text(PAGE.format(load=json.dumps(given)))
        chromium.open(f"{address}/index.html")
        events = interactions(broker, namespace, 3)
        assert sorted((event.event_type, event.item_id or "") for event in events) == [
            ("cart", "kettle"),
            ("page", ""),
            ("view", "kettle"),
        ]
        assert {event.user_id for event in events if event.event_type == "cart"} == {"ada"}
        entries = [message.record for message in records(broker, namespace, PEOPLE, 2)]
        assert {entry.entity for entry in entries} == {"identity", "user"}

        paths = {"/v1/p", "/v1/t", "/v1/i"}
        paths.add("/v1/m" if by == "apiHost" else f"/v1/projects/{KEY}/settings")
        chromium.until(f"new Set({ASKED}.map(([path]) => path)).size >= {len(paths)}")
        asked = chromium.run(f"return {ASKED}")
        assert {path for path, _ in asked} == paths
        assert {status for _, status in asked} == {200}
        assert chromium.run("return window.fault") is None
