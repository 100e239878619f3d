"""Memory of a process."""

import resource
import sys


def peak_memory_mb() -> float:
    """The largest resident size of this process so far, in MiB."""
    # Linux counts in KiB, macOS in bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
