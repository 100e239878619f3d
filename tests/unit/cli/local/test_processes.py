import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slipstream_cli.local import processes
from slipstream_cli.local.processes import Child, LogFile, free_port, is_free


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


def test_a_killed_child_has_left_its_port_when_what_it_forked_still_ends() -> None:
    port = free_port()
    script = (
        "import os, socket, time\n"
        f"server = socket.create_server(('127.0.0.1', {port}))\n"
        "if os.fork() == 0:\n"
        "    os.setsid()  # out of the reach of the kill\n"
        "    time.sleep(0.3)\n"
        "    os._exit(0)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script]
    child = Child("forking", port, command, lambda port: not is_free(port), grace_s=0.0)
    child.start().kill()
    assert is_free(port)


def test_a_log_is_bounded_and_its_child_writes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "MAX_LOG_BYTES", 1_000)
    log = LogFile(tmp_path / "logs" / "x.log")
    script = "import sys\nfor line in sys.stdin: print(line.strip(), 'x' * 50, flush=True)"
    with (
        log.file,
        subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=log.file, text=True
        ) as child,
    ):
        assert child.stdin
        for number in range(100):
            child.stdin.write(f"{number:06d}\n")
            child.stdin.flush()
            deadline = time.monotonic() + 60
            while f"{number:06d}" not in log.path.read_text():
                assert time.monotonic() < deadline
            log.bound()
    assert sorted(path.name for path in log.path.parent.iterdir()) == ["x.log", "x.log.1"]
    assert all(path.stat().st_size < 1_100 for path in log.path.parent.iterdir())


def test_a_log_that_was_deleted_is_bounded_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "MAX_LOG_BYTES", 10)
    log = LogFile(tmp_path / "x.log")
    with log.file:
        os.write(log.file.fileno(), b"x" * 20)
        log.path.unlink()
        log.bound()
        assert os.fstat(log.file.fileno()).st_size == 0


def test_the_tail_of_a_log_is_the_ends_of_its_last_lines(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "x.log")
    with log.file:
        log.file.write(b"first\n" * 10 + b"x" * 1_000 + b" no broker\nlast\n")
    long, last = log.tail().splitlines()[-2:]
    assert long.endswith("x no broker") and len(long) == 302
    assert last == "  last"
