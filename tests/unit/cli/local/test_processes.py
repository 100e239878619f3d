import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slipstream_cli.local import processes
from slipstream_cli.local.processes import Log, error_in, free_port, is_free


def test_a_free_port_is_given_once_and_a_server_can_listen_there() -> None:
    ports = [free_port() for _ in range(100)]
    assert len(set(ports)) == len(ports)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", ports[0]))
    assert is_free(ports[0])
    with socket.create_server(("127.0.0.1", ports[0])):
        assert not is_free(ports[0])
        with socket.create_connection(("127.0.0.1", ports[0])):
            pass
    # Another process that wants a port.
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", ports[0]))


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_error_in_shows_the_event_and_the_last_line_of_its_cause() -> None:
    line = (
        '{"level":"error","event":"worker failed","exception":"Trace:\\n File x\\nValueError: no"}'
    )
    assert error_in(line) == "worker failed: ValueError: no"
    assert (
        error_in('{"level":"error","event":"Traceback:\\n  File x\\nNameError: y\\n"}')
        == "NameError: y"
    )
    assert error_in('{"level":"info","event":"started"}') == ""
    assert error_in("{not json") == ""
    assert error_in("Traceback") == ""


def test_log_keeps_all_lines_and_shows_each_error_once(tmp_path: Path) -> None:
    shown: list[str] = []
    log = Log(tmp_path / "logs" / "x.log", shown.append)
    os.write(
        log.fd,
        b"starting\n" + 2 * b'{"level":"error","event":"no broker"}\n' + b"last\n",
    )
    _await(lambda: log.tail()[-1:] == ["last"])
    log.close()
    assert shown == ["no broker"]
    assert (tmp_path / "logs" / "x.log").read_text().splitlines()[0] == "starting"


def test_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "MAX_LOG_BYTES", 1_000)
    log = Log(tmp_path / "x.log", lambda _: None)
    for number in range(100):
        os.write(log.fd, b"%06d %s\n" % (number, b"x" * 50))
    _await(lambda: (log.tail() or [""])[-1].startswith("000099"))
    log.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.log", "x.log.1"]
    assert all(path.stat().st_size <= 1_000 for path in tmp_path.iterdir())
