import json
import logging
import threading
from collections.abc import Iterator

import pytest
import structlog

from slipstream.chassis.logging import (
    TracedId,
    carrying,
    configure_logging,
    get_logger,
    request_id,
)
from slipstream.chassis.settings import LogSettings


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    configured = structlog.get_config()
    yield
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
    structlog.configure(**configured)
    structlog.contextvars.clear_contextvars()


def test_line_is_json_with_service_and_request_id_in_any_thread(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging(LogSettings(), "features")

    def work() -> None:
        request_id.set("r-1")
        get_logger("anywhere").info("applied", visitor="ada", count=3)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    line = json.loads(capsys.readouterr().out)
    assert line["event"] == "applied" and line["level"] == "info" and line["count"] == 3
    assert (
        line["service"] == "features"
        and line["request_id"] == "r-1"
        and line["timestamp"].endswith("Z")
    )


def test_lines_of_a_traced_request_have_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(), "features")
    rid = TracedId("r-1", f"00-{'a' * 32}-{'b' * 16}-01")
    with carrying(rid):
        get_logger("anywhere").info("inside")
        get_logger("anywhere").info("of another", request_id="r-2")
    get_logger("anywhere").info("named", request_id=rid)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["request_id"], line.get("trace_id")) for line in lines] == [
        ("r-1", "a" * 32),
        ("r-2", None),
        ("r-1", "a" * 32),
    ]


def test_lines_below_the_level_are_left_out_and_libraries_are_included(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging(LogSettings(level="warning"), "features")
    get_logger("ours").info("quiet")
    logging.getLogger("some.library").warning("disk is slow")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["disk is slow"]
    assert lines[0]["service"] == "features"


def test_exception_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(), "features")
    try:
        raise ValueError("bad offset")
    except ValueError:
        get_logger("ours").exception("failed")
    line = json.loads(capsys.readouterr().out)
    assert "ValueError: bad offset" in line["exception"]


def test_what_the_kafka_client_repeats_is_said_once_a_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("slipstream.chassis.logging.monotonic", lambda: clock[0])
    configure_logging(LogSettings(), "features")
    for clock[0] in (0.0, 0.5, 59.0, 61.0):
        logging.getLogger("kafka.net.manager").error("Connection failed: %s", "refused")
        get_logger("ours").warning("ours")
    logging.getLogger("kafka.net.manager").error("Connection failed: %s", "no route")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["level"] for line in lines} == {"warning"}  # no error of ours
    events = [line["event"] for line in lines]
    assert events.count("Connection failed: refused") == 2
    assert events.count("Connection failed: no route") == 1
    assert events.count("ours") == 4


def test_a_read_from_a_socket_that_the_kafka_client_has_closed_is_no_news(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging(LogSettings(), "monitoring")

    def failed(logger: str, attribute: str) -> str:
        try:
            getattr(None, attribute)
        except AttributeError:
            logging.getLogger(logger).exception("closing")
        return capsys.readouterr().out

    assert failed("kafka.net.transport", "recv") == ""
    assert "Traceback" in failed("kafka.net.transport", "send")
    assert "Traceback" in failed("redis", "recv")


def test_a_traceback_for_people_shows_no_values(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(key: str) -> None:
        raise ValueError(f"a key of {len(key)} letters")

    configure_logging(LogSettings(format="console"), "features")
    try:
        fail("s3cret" * 2)
    except ValueError as error:
        get_logger("anywhere").error("failed", exc_info=error)
    shown = capsys.readouterr().out
    assert "a key of 12 letters" in shown
    assert "s3crets3cret" not in shown
