import asyncio

from slipstream.chassis.health import Health


async def test_check_that_hangs_is_down_after_the_limit() -> None:
    health = Health(limit_s=0.01)

    async def hang() -> None:
        await asyncio.Event().wait()

    async def fine() -> None:
        return None

    health.add("redis", hang)
    health.add("kafka", fine)
    verdicts = await health.run()
    assert verdicts == {"redis": "no answer within 0.01 s", "kafka": "ok"}
