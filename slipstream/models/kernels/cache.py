"""The folder of compiled kernels: beside the sources, else in the user's cache.

Its name tells the sources and the level of processors, so that code of other sources is never
found. An image is compiled into the first place, which containers then only read.
"""

import hashlib
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from numba import config
from numba.core.caching import _CacheLocator

_HERE = Path(__file__).parent


class KernelCache(_CacheLocator):  # type: ignore[misc, unused-ignore]
    """The place of one function's code, as numba asks for it."""

    def __init__(self, line: int) -> None:
        self._line = line
        self._folder = _folder(f"kernels-{sources()[:16]}-{config.CPU_NAME}")

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> "KernelCache":  # noqa: ARG003
        return cls(py_func.__code__.co_firstlineno)

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return sources()

    def get_disambiguator(self) -> str:
        return str(self._line)

    def ensure_cache_path(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)


@cache
def sources() -> str:
    """A digest of the kernels' sources: functions of one file are compiled into another's."""
    digest = hashlib.sha256()
    for path in sorted(_HERE.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def _folder(name: str) -> Path:
    """The first place that has the code, or else where it can be written."""
    places = [_HERE / "__pycache__" / name, Path.home() / ".cache" / "slipstream" / name]
    for place in places:
        if any(place.glob("*.nbc")):
            return place
    for place in places:
        try:
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=place):
                return place
        except OSError:
            continue
    return Path(tempfile.mkdtemp(prefix=name))
