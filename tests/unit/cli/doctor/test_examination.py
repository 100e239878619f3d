"""The examination's look at the services."""

from typing import Any

from slipstream_cli.doctor import examination


def test_a_service_that_takes_no_connection_is_asleep_where_monitoring_says_so() -> None:
    nowhere: Any = dict.fromkeys(("training", "serving", "features"), "http://127.0.0.1:9")
    services, _ = examination._ask(examination.Places(None, nowhere), {"serving"})  # type: ignore[arg-type]
    assert {each.name: each.state for each in services} == {
        "training": "away",
        "serving": "asleep",
        "features": "away",
    }
