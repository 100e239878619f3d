"""The compiler of the kernels: numba, for a level of processors rather than for this machine's.

Code that was compiled elsewhere thus runs on every other machine of the level. It is kept beside
the sources, else in the user's cache. The folder's name tells the sources and the level of
processors, so that code of other sources is never found. An image is compiled into the first place,
which containers then only read.
"""

import hashlib
import tempfile
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba
from llvmlite import binding
from numba import config
from numba.core.caching import _CacheLocator

_HERE = Path(__file__).parent
# Sums may be taken in another order, in lanes: tests compare the results with NumPy's.
_SUMS = {"reassoc", "contract", "nsz"}
# What level 3 adds to the first x86-64 processors. Most since 2013 have it, and loops take half as
# long.
_LEVEL_3 = ("avx2", "fma", "bmi2", "f16c", "lzcnt", "movbe")

# The place of the cache is numba's, for all functions of the process.
_PREPARING = threading.Lock()

F = TypeVar("F", bound=Callable[..., Any])


def processor() -> str:
    """The level of this machine's processor, in LLVM's words."""
    has = binding.get_host_cpu_features()
    return "x86-64-v3" if all(has.get(feature) for feature in _LEVEL_3) else "generic"


# numba reads these at the first function that it sees.
config.CPU_NAME, config.CPU_FEATURES = config.CPU_NAME or processor(), ""


def levels() -> list[str]:
    """The levels that an image of this architecture is compiled for."""
    return sorted({"generic", processor()})


def compiled(function: F) -> F:
    """A function that kernels call."""
    return _jit(function, no_cpython_wrapper=True)


def as_written(function: F) -> F:
    """The same, with sums taken in the order in which they are written."""
    return _jit(function, fastmath={"contract"}, no_cpython_wrapper=True)


def in_place(function: F) -> F:
    """A function that becomes a part of the one that calls it, which is optimised once with it."""
    return _jit(function, inline="always")


def kernel(function: F) -> F:
    """A function that Python calls, once it is prepared."""
    return _jit(function)


def _jit(function: F, **options: Any) -> F:
    common = {"nogil": True, "fastmath": _SUMS, "error_model": "numpy", "no_cfunc_wrapper": True}
    decorated: F = numba.njit(**{**common, **options})(function)
    return decorated


def prepare(kernel: Any, signature: Any) -> None:
    """Load a kernel's code from disk, or compile and keep it: seconds, once for each version.

    Arguments of other types raise TypeError from then on, instead of compiling during a request.
    """
    with _PREPARING:
        if kernel.signatures:
            return
        config.CACHE_LOCATOR_CLASSES = f"{__name__}.{KernelCache.__name__}"
        try:
            kernel.enable_caching()
            kernel.compile(signature)
        finally:
            config.CACHE_LOCATOR_CLASSES = ""
        kernel.disable_compile()


class KernelCache(_CacheLocator):  # type: ignore[misc, unused-ignore]
    """The place of one function's code, as numba asks for it."""

    def __init__(self, line: int) -> None:
        self._line = line
        self._folder = _folder(f"kernels-{_sources()[:16]}-{config.CPU_NAME}")

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> "KernelCache":  # noqa: ARG003
        return cls(py_func.__code__.co_firstlineno)

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return _sources()

    def get_disambiguator(self) -> str:
        return str(self._line)

    def ensure_cache_path(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)


@cache
def _sources() -> str:
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
