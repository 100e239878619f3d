"""Cache folder of one replica, where several replicas share a volume.

Each replica's folder is named by its host. A file in it is locked for as long as a process of the
replica lives, so others can tell which replicas are gone. Linux drops the lock with the process.
"""

import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from slipstream.chassis.logging import get_logger

log = get_logger(__name__)

# What stands in the setting for the machine's name.
HOSTNAME: Final = "{hostname}"
_LOCK: Final = ".replica-lock"


@contextmanager
def replica_folder(configured: Path, *, leads: bool, hostname: str = "") -> Iterator[Path]:
    """Hold the cache folder of this replica; folders of replicas that are gone are deleted.

    A disk that can't be written costs the lock: serving answers without its cache.

    Args:
        configured: The setting. Without `{hostname}` as its last part, nothing is shared, and
            nothing locked or deleted.
        leads: Whether this process deletes for the replica, which may have several.
        hostname: Name of this replica; empty for the machine's.

    Returns:
        The folder.
    """
    if configured.name != HOSTNAME:
        yield configured
        return
    folder = configured.with_name(hostname or socket.gethostname())
    try:
        lock = _hold(folder)
    except OSError as error:
        log.warning("the cache can't be held", folder=str(folder), reason=str(error))
        yield folder
        return
    try:
        if leads:
            _drop_abandoned(folder)
        yield folder
    finally:
        os.close(lock)


def _hold(folder: Path) -> int:
    """Lock the folder together with the replica's other processes; the lock's descriptor."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:  # deleted since
            continue
        fcntl.flock(lock, fcntl.LOCK_SH)
        # Another replica may have deleted the folder while this one waited for the lock.
        if os.fstat(lock).st_nlink:
            return lock
        os.close(lock)


def _drop_abandoned(own: Path) -> None:
    """Delete the folders next to ours that no process holds."""
    for path in own.parent.glob(f"*/{_LOCK}"):
        if path.parent == own:
            continue
        try:
            lock = os.open(path, os.O_RDWR)
        except OSError:  # another deletes it
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The lock goes last: until then others see that the folder is held.
            for entry in path.parent.iterdir():
                if entry != path:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            path.unlink()
            path.parent.rmdir()
            log.info("the cache of a replica that is gone is deleted", folder=str(path.parent))
        except OSError as error:
            if not isinstance(error, BlockingIOError):  # in use
                log.warning("a cache can't be deleted", folder=str(path.parent), reason=str(error))
        finally:
            os.close(lock)
