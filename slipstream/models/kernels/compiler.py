"""The compiler of the kernels: numba, for a level of processors rather than for this machine's.

Code that was compiled elsewhere thus runs on every other machine of the level.
"""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numba
from llvmlite import binding
from numba import config

_CACHE = "slipstream.models.kernels.cache.KernelCache"
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
        config.CACHE_LOCATOR_CLASSES = _CACHE
        try:
            kernel.enable_caching()
            kernel.compile(signature)
        finally:
            config.CACHE_LOCATOR_CLASSES = ""
        kernel.disable_compile()
