"""The lock of a data folder, which also describes the running stack to other commands.

Each stack of this user notes its data folder, so that commands can name it.
"""

import fcntl
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from slipstream_cli.local.plan import Plan
from slipstream_cli.local.processes import StartError

_LOCK, _RESTORE = "lock", "restore.lock"


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
    # Not one that others use, such as /tmp, or another user's.
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
        file.truncate(0)
        json.dump(plan.description, file)
        file.flush()
        yield


@contextmanager
def services_stopped(directory: Path) -> Iterator[None]:
    """Have the stack on this folder stop training and monitoring, at once and for the block.

    It starts them again even if this process dies in the block.
    """
    with (directory / _RESTORE).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def restore_runs(directory: Path) -> bool:
    """Whether a process is within `services_stopped` on this folder."""
    try:
        with (directory / _RESTORE).open("r") as file:
            return not _try_lock(file)
    except FileNotFoundError:
        return False


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def note(directory: Path) -> None:
    """Note that a stack runs on this data folder. The note stays; the folder's lock tells later."""
    if (notes := _notes()) is not None:
        name = hashlib.sha256(str(directory).encode()).hexdigest()[:16]
        with suppress(OSError):
            (notes / name).write_text(str(directory), encoding="utf-8")


def running_stacks() -> list[Path]:
    """Return the data folders on which a stack of this user runs."""
    notes = _notes()
    if notes is None:
        return []
    found = []
    for path in sorted(notes.iterdir()):
        with suppress(OSError, ValueError):
            directory = Path(path.read_text(encoding="utf-8"))
            if running_stack(directory):
                found.append(directory)
            else:
                path.unlink(missing_ok=True)
    return found


def _notes() -> Path | None:
    """The folder of the notes, writable by its owner alone; None where it can't be made."""
    folder = Path(tempfile.gettempdir()) / f"slipstream-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return None
    mine = status.st_uid == os.getuid() and stat.S_ISDIR(status.st_mode)
    return folder if mine and not status.st_mode & 0o022 else None
