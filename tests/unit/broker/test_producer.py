"""A producer that looks for its broker."""

import threading

import pytest

from slipstream.broker.producer import Producer
from slipstream.chassis.settings import KafkaSettings

NO_BROKER = KafkaSettings(bootstrap_servers="127.0.0.1:1")


@pytest.mark.parametrize("closed", [True, False])
def test_an_interpreter_that_ends_stops_the_look_without_a_word(
    monkeypatch: pytest.MonkeyPatch, closed: bool
) -> None:
    failures: list[BaseException | None] = []

    def told(failure: threading.ExceptHookArgs) -> None:
        failures.append(failure.exc_value)

    def reach(producer: Producer) -> None:
        if closed:
            producer.close()
        raise RuntimeError("can't start new thread at interpreter shutdown")

    monkeypatch.setattr(threading, "excepthook", told)
    monkeypatch.setattr(Producer, "_reach", reach)
    Producer(NO_BROKER, "test", connect=False)
    for thread in threading.enumerate():
        if thread.name == "producer-mending":
            thread.join(10)
    assert [str(failure) for failure in failures] == (
        [] if closed else ["can't start new thread at interpreter shutdown"]
    )
