"""Control groups that limit the memory of a process, by cgroup v2 or v1."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_V1, _V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


class MemoryGroup:
    """A group of processes with `limit` bytes together; beyond, the kernel kills."""

    def __init__(self, name: str, limit: int) -> None:
        self.limit = limit
        self._is_v2 = not _V1.is_dir()
        self._folder = (_V2 if self._is_v2 else _V1) / f"slipstream-{os.getpid()}-{name}"
        self._folder.mkdir()
        limit_file = "memory.max" if self._is_v2 else "memory.limit_in_bytes"
        (self._folder / limit_file).write_text(str(limit))

    def prefix(self) -> list[str]:
        """Words before a command that let it run in this group from its first byte on."""
        return ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(self._folder)]

    @property
    def kills(self) -> int:
        """Processes of the group that the kernel has killed for want of memory."""
        name = "memory.events" if self._is_v2 else "memory.oom_control"
        lines = (self._folder / name).read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))

    def remove(self) -> None:
        """Remove the group; its processes have ended."""
        with suppress(OSError):
            self._folder.rmdir()


def why_not() -> str:
    """Why this machine can't limit memory so; empty when it can."""
    if os.geteuid() != 0:
        return "it needs root, to make control groups"
    if _V1.is_dir():
        return ""
    controllers = _V2 / "cgroup.subtree_control"
    if controllers.exists() and "memory" in controllers.read_text().split():
        return ""
    return "the kernel's memory controller is not enabled in /sys/fs/cgroup"


@contextmanager
def memory_groups(limits: dict[str, int]) -> Iterator[dict[str, MemoryGroup]]:
    """A group for each name, for the block."""
    made: dict[str, MemoryGroup] = {}
    try:
        for name, limit in limits.items():
            made[name] = MemoryGroup(name, limit)
        yield made
    finally:
        for group in made.values():
            group.remove()
