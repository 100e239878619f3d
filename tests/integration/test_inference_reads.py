from typing import Any, cast

import redis

from slipstream.chassis.settings import RedisSettings
from slipstream.slates.slate_request import SlateRequest
from slipstream.stores.online import OnlineReader
from tests.integration.test_serving import remember
from tests.unit.serving.fakes import FakeOnline, Setting


async def test_all_visitors_of_one_inference_are_read_by_one_command(
    redis_settings: RedisSettings, redis_url: str, namespace: str
) -> None:
    remember(redis_settings, namespace, "visitor-7", "item-03", "item-04")
    reader = OnlineReader(redis_settings, namespace)
    setting = Setting(cast(FakeOnline, reader), redis_timeout_s=10)
    server: Any = redis.Redis.from_url(redis_url)
    server.config_resetstat()
    answers = await setting.line.answer_each(
        [SlateRequest(5, f"visitor-{number}") for number in range(64)]
    )
    commands = server.info("commandstats")
    server.close()
    await reader.aclose()
    assert commands["cmdstat_mget"]["calls"] == 1
    assert [answer.history_length for answer in answers] == [2 * (n == 7) for n in range(64)]
