"""The lock of a data folder, which also describes the running stack to other commands."""

import fcntl
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from slipstream_cli.local.plan import Plan
from slipstream_cli.local.processes import StartError

_LOCK = "lock"


def running_stack(directory: Path) -> dict[str, str]:
    """Return the `Plan.description` of the stack running on this folder.

    It is empty when none runs, or when the folder is another user's.
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
    """Lock the plan's data folder for the block, against a second stack on it.

    Raises:
        StartError: Another stack runs on it.
    """
    plan.directory.mkdir(parents=True, exist_ok=True)
    status = plan.directory.stat()
    # Folders of older versions; not one that others use, such as /tmp, or another user's.
    if status.st_uid == os.geteuid() and not status.st_mode & stat.S_ISVTX:
        plan.directory.chmod(0o700)
    # It holds a write key, so only the owner may read it.
    descriptor = os.open(plan.directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+") as file:
        if not _try_lock(file):
            raise StartError(
                f"Slipstream already runs on {plan.directory};"
                " stop it, or give another folder with --data-dir"
            )
        os.fchmod(descriptor, 0o600)  # files of older versions
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
