"""Records what serving answers: `python -m tests.unit.serving.recorded.record`.

Run it at the commit whose answers are to hold. It writes the file that `test_app_recorded.py`
compares with.
"""

import asyncio
import lzma
import sys
from pathlib import Path

import orjson

from tests.unit.serving.recorded.asking import answers
from tests.unit.serving.recorded.scenes import NAMES, scene

PATH = Path(__file__).with_name("answers.jsonl.xz")


def record(path: Path = PATH) -> int:
    """Write the answers to every request of every scene; returns their number."""
    found = [each for name in NAMES for each in asyncio.run(answers(scene(name)))]
    path.write_bytes(lzma.compress(b"".join(orjson.dumps(each) + b"\n" for each in found)))
    return len(found)


if __name__ == "__main__":
    print(record(Path(sys.argv[1]) if len(sys.argv) > 1 else PATH))
