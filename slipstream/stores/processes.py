"""The identity of a process, by which others on its machine can tell that it has ended."""

import os
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_ENDED_STATES = frozenset("ZX")  # a zombie runs no more code, whoever forgot to reap it


def identity() -> str:
    """This process: boot of the machine, space of process ids, id, and time of its start."""
    pid = os.getpid()
    _, started = _state(pid)
    return f"{_machine()} {pid} {started}"


def has_ended(process: str) -> bool:
    """Whether the process with this identity has surely ended.

    False for processes of another machine or container, which can't be seen from here, and on
    systems without `/proc`.
    """
    machine, pid, started = process.rsplit(" ", 2)
    if not started or machine != _machine():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    state, started_now = _state(int(pid))
    return state in _ENDED_STATES or bool(started_now and started_now != started)


def _machine() -> str:
    """The boot and the space of process ids, in which an id means one process at a time."""
    with suppress(OSError):
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    return ""


def _state(pid: int) -> tuple[str, str]:
    """State and time of the start, from `/proc/PID/stat`; empty where it can't be read."""
    with suppress(OSError):
        # The name, in parentheses, may hold spaces.
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return fields[0], fields[19]
    return "", ""
