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


def test_optional_dependency_down_leaves_the_service_degraded_and_a_required_one_unready() -> None:
    health = Health()

    async def fine() -> None:
        return None

    health.add("broker", fine)
    health.add("redis", fine, required=False)
    assert health.status([]) == "ready"
    assert health.status(["redis"]) == "degraded"
    assert health.status(["broker", "redis"]) == "unready"
