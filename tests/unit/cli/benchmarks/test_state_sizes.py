"""Sizes of states, on a real Redis."""

from slipstream.chassis.settings import RedisSettings
from slipstream_cli.benchmarks import state_sizes


def test_states_are_weighed_on_the_server(redis_settings: RedisSettings, namespace: str) -> None:
    rows = state_sizes.run(redis_settings, namespace, visitors=60, items=20)
    assert [row["unit"] for row in rows] == ["bytes", "bytes"]
    assert all(100 < row["value"] <= state_sizes.BAR_BYTES for row in rows)
