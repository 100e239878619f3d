"""On what a run computed: whoever wants the same figures needs the same versions, and knows from it
why times differ.
"""

import os
import platform
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("numpy", "scipy", "scikit-learn", "torch", "optuna", "slipstream")


def environment() -> dict[str, str]:
    """Python, platform, processors that this process may use, and versions of packages; what is not
    installed is left out.
    """
    processors = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )
    found = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": str(processors),
    }
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
