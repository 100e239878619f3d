"""The end of a service, requested before and after the way to end it is known."""

from slipstream.chassis.ending import Ending


def test_an_end_that_is_asked_for_early_is_not_lost() -> None:
    ending, ends = Ending(), list[str]()
    ending.ask("the parent is gone")
    ending.calls(lambda: ends.append(ending.reason))
    assert ends == ["the parent is gone"]
    ending.ask("Kafka refuses")
    assert ends == ["the parent is gone"]


def test_an_end_comes_once_and_only_when_it_is_asked_for() -> None:
    ending, ends = Ending(), list[str]()
    ending.calls(lambda: ends.append(ending.reason))
    assert ends == []
    ending.ask("Kafka refuses")
    ending.ask("the parent is gone")
    assert ends == ["Kafka refuses"]
