"""The local stacks of this user: each notes its data folder, so that commands can name it."""

import hashlib
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from slipstream_cli.local.data_folder import running_stack


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
