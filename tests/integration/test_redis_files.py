"""Files of Redis: rewritten once after an erasure, by whichever replica looks."""

from pathlib import Path

import redis

from slipstream.stores.redis_server import RedisFiles
from tests.conftest import OwnRedis
from tests.integration.byte_search import files_with
from tests.waiting import until


def test_deleted_keys_leave_the_files_when_these_are_written_anew(
    own_redis: OwnRedis, tmp_path: Path
) -> None:
    settings, server = own_redis()
    client = redis.Redis.from_url(settings.url.get_secret_value())
    client.config_set("save", "3600 1")
    client.set("erased-7f3a9c51", "x")
    client.delete("erased-7f3a9c51")
    one, other = (RedisFiles(settings, "shop") for _ in range(2))
    assert [*files_with(["erased-7f3a9c51"], tmp_path)] and one.written_at() is None

    def written(by: RedisFiles, since_ms: int, now_ms: int) -> bool:
        by.rewrite(since_ms, now_ms)
        return by.written_at() is not None

    one.rewrite(1_000, 1_005)
    until(lambda: written(other, 1_000, 9_999))
    assert one.written_at() == 1_005, "it is begun once"
    assert [*files_with(["erased-7f3a9c51"], tmp_path)] == []
    one.rewrite(1_003, 2_000)
    assert one.written_at() == 1_005, "nothing was erased since"

    one.rewrite(2_000, 2_001)
    server.kill()  # What was begun may not have ended.
    server.start()
    until(lambda: bool(client.ping()))

    def begun_again() -> bool:
        one.rewrite(2_000, 2_050)
        return one.written_at() == 2_050

    until(begun_again)
    for each in (one, other, client):
        each.close()


def test_a_redis_that_refuses_is_left_alone(own_redis: OwnRedis) -> None:
    settings, _ = own_redis()
    client = redis.Redis.from_url(settings.url.get_secret_value())
    client.acl_setuser("default", commands=["-bgrewriteaof"], reset=False, enabled=True)
    files = RedisFiles(settings, "shop")
    for _ in range(2):
        files.rewrite(1_000, 1_005)
    assert files.written_at() is None
    files.close()
    client.close()
