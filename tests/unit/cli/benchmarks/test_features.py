"""Sizes of states, on a real Redis."""

from slipstream.chassis.settings import RedisSettings
from slipstream_cli.benchmarks import features


def test_states_are_weighed_on_the_server(redis_settings: RedisSettings, namespace: str) -> None:
    rows = features.state_sizes(redis_settings, namespace, visitors=60, items=20)
    assert [row["unit"] for row in rows] == ["bytes", "bytes"]
    assert all(100 < row["value"] <= features.BAR_BYTES for row in rows)
