"""Who runs on a data folder: its lock, which also tells other commands how to reach the stack."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from slipstream_cli.local.plan import Plan
from slipstream_cli.local.processes import StartError

_LOCK = "lock"


def running_stack(directory: Path) -> dict[str, str]:
    """The `Plan.description` of the stack that runs on this folder; empty when none does, or it is
    another user's.
    """
    try:
        with (directory / _LOCK).open("r") as file:
            if _try_lock(file):
                return {}
            return dict(json.load(file))
    except (OSError, ValueError):
        return {}


@contextmanager
def data_folder_lock(plan: Plan) -> Iterator[None]:
    """Hold the data folder: a second stack on it is refused while this one runs, and only then.
    Raises `StartError`.
    """
    plan.directory.mkdir(parents=True, exist_ok=True)
    # What is in it lets its reader write events.
    descriptor = os.open(plan.directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+") as file:
        if not _try_lock(file):
            raise StartError(
                f"Slipstream already runs on {plan.directory}; stop it, or give another folder with --data-dir"
            )
        os.fchmod(descriptor, 0o600)  # one that an older version made
        file.truncate(0)
        json.dump(plan.description, file)
        file.flush()
        yield


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
