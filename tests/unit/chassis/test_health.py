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


async def test_however_many_ask_the_checks_run_once_in_a_while() -> None:
    now, runs, going_on = 100.0, 0, asyncio.Event()

    async def check() -> None:
        nonlocal runs
        runs += 1
        await going_on.wait()

    health = Health(fresh_s=0.5, clock=lambda: now)
    health.add("redis", check)
    strangers = [asyncio.create_task(health.run()) for _ in range(100)]
    await asyncio.sleep(0)
    strangers[0].cancel()
    going_on.set()
    assert await asyncio.gather(*strangers[1:]) == [{"redis": "ok"}] * 99
    now += 0.4
    await health.run()
    assert runs == 1
    now += 0.1
    await health.run()
    assert runs == 2


async def test_a_new_check_is_not_waited_for() -> None:
    health = Health(fresh_s=60.0)
    assert await health.run() == {}

    async def fails() -> None:
        raise RuntimeError("away")

    health.add("kafka", fails)
    assert await health.run() == {"kafka": "RuntimeError: away"}
