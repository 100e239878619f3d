"""`python -m slipstream.models.kernels`: compile the kernels ahead, for every level of processors.

An image is built with it, since its containers can't write beside the sources. With `--here` it is
for this machine's level alone, which takes half the time.
"""

import os
import subprocess
import sys
from collections.abc import Sequence

from slipstream.models.kernels import lists, slates
from slipstream.models.kernels.compiler import levels, prepare


def main(arguments: Sequence[str]) -> None:
    """Compile for one level in this process, named by `NUMBA_CPU_NAME`, or for each in its own."""
    if "NUMBA_CPU_NAME" in os.environ or "--here" in arguments:
        prepare(lists.recommend, lists.RECOMMEND)
        prepare(slates.fill, slates.FILL)
        return
    for level in levels():
        environment = {**os.environ, "NUMBA_CPU_NAME": level}
        subprocess.run(
            [sys.executable, "-m", "slipstream.models.kernels"], env=environment, check=True
        )


if __name__ == "__main__":
    main(sys.argv[1:])
