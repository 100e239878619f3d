"""Leave out of an environment what no service imports: `trim.py SITE_PACKAGES`.

Removed are packages' own tests, headers and static libraries for those who compile against them,
type stubs, and the parts of pyarrow and torch that are listed below. Symbol tables of shared
objects are stripped. Each package's RECORD is brought up to date, so that its files can be verified
still.
"""

import base64
import csv
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

# Glob patterns below site-packages, each with its reason.
UNUSED: Final = {
    "**/tests/": "packages' own tests",
    "**/*.a": "static libraries",
    "**/*.pyi": "type stubs",
    "**/*.pxd": "Cython's headers",
    "**/*.pyx": "Cython's sources",
    "fastapi_offline/static/redoc*": "another viewer of APIs than the one of /docs",
    "numpy/_core/include/": "headers",
    "pyarrow/include/": "headers",
    "pyarrow/src/": "sources",
    "pyarrow/_flight*": "Arrow Flight, a protocol between servers",
    "pyarrow/libarrow_flight*": "Arrow Flight, a protocol between servers",
    "pyarrow/libarrow_python_flight*": "Arrow Flight, a protocol between servers",
    "torch/include/": "headers",
    "torch/share/": "CMake's files",
    "torch/bin/protoc*": "the compiler of protocol buffers",
}
# Modules below a folder of tests that the package itself imports.
KEPT: Final = {"numpy/_core/tests/_natype.py"}
# Smaller shared objects have next to no symbols.
_STRIPPED_BYTES: Final = 200_000


def trim(site: Path, strip: str | None) -> int:
    """Remove the unused files of all packages; returns the bytes that became free.

    Args:
        site: The folder of the packages.
        strip: The program that removes symbol tables; None leaves them.
    """
    before = _size(site)
    for pattern in UNUSED:
        for path in sorted(site.glob(pattern.rstrip("/"))):
            if path.is_dir() and not path.is_symlink():
                _remove_folder(site, path)
            elif path.exists():
                path.unlink()
    if strip:
        for path in _shared_objects(site):
            subprocess.run([strip, "--strip-unneeded", path], check=True)
    for record in site.glob("*.dist-info/RECORD"):
        _renew(record)
    return before - _size(site)


def _remove_folder(site: Path, folder: Path) -> None:
    kept = [site / name for name in KEPT if (site / name).is_relative_to(folder)]
    texts = {path: path.read_bytes() for path in kept if path.exists()}
    shutil.rmtree(folder)
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_bytes(text)


def _shared_objects(site: Path) -> Iterator[Path]:
    for path in sorted(site.rglob("*.so*")):
        if path.is_file() and not path.is_symlink() and path.stat().st_size > _STRIPPED_BYTES:
            with path.open("rb") as file:
                if file.read(4) == b"\x7fELF":
                    yield path


def _renew(record: Path) -> None:
    """Drop files that are gone from a RECORD, and correct digests and sizes of the others."""
    rows = []
    with record.open(newline="") as file:
        for name, digest, size in csv.reader(file):
            path = record.parents[1] / name
            if not path.exists():
                continue
            if size and path.stat().st_size != int(size):
                digest, size = _digest(path), str(path.stat().st_size)
            rows.append((name, digest, size))
    with record.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _digest(path: Path) -> str:
    digest = hashlib.sha256(path.read_bytes()).digest()
    return f"sha256={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


if __name__ == "__main__":
    freed = trim(Path(sys.argv[1]), shutil.which("strip"))
    print(f"{freed / 1_000_000:.0f} MB removed")
