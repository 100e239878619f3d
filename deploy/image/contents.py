"""List the packages of an image by size, and those that its service never imports.

It runs in the image, and needs nothing but the standard library there:

    docker run --rm -i --entrypoint python slipstream/serving - serving <deploy/image/contents.py

Imported are all modules of the service, and in turn whatever these import, within functions too.
"""

import ast
import importlib
import importlib.metadata as metadata
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

OURS: Final = ("slipstream", "services", "slipstream_cli")


def import_all(service: str) -> set[str]:
    """Import a service's modules and all that they lead to; the names that are not there."""
    package = importlib.import_module(f"services.{service}")
    pending = ["services.start", "slipstream_cli.__main__"]
    pending += [
        each.name for each in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]
    seen, absent = set[str](), set[str]()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            module = importlib.import_module(name)
        except ImportError:
            absent.add(name)
            continue
        if name.partition(".")[0] in OURS and not name.startswith("slipstream_cli"):
            pending += _imports(Path(str(module.__file__)))
    return absent


def _imports(path: Path) -> Iterator[str]:
    """The modules that a file imports anywhere, except for a type checker alone."""
    pending: list[ast.AST] = [ast.parse(path.read_bytes())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from filter(_is_module, names)
        pending += ast.iter_child_nodes(node)


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # its parent is no package, or is made while it runs
        return False


def size(package: metadata.Distribution) -> int:
    """Bytes of a package's files, with their bytecode."""
    total = 0
    for file in package.files or ():
        path = Path(str(package.locate_file(file)))
        if path.is_file():
            total += path.stat().st_size
            if path.suffix == ".py":
                cached = Path(importlib.util.cache_from_source(str(path)))
                total += cached.stat().st_size if cached.is_file() else 0
    return total


def main(service: str) -> None:
    """Print the table."""
    absent = import_all(service)
    tops = {name.partition(".")[0] for name in sys.modules}
    # Several packages may fill one top-level module, as mlflow-skinny does.
    providers = metadata.packages_distributions()
    imported = {name for top in tops for name in providers.get(top, ())}
    rows = sorted(
        ((size(each), each.metadata["Name"], each.version) for each in metadata.distributions()),
        reverse=True,
    )
    print(f"{service}: {len(rows)} packages, {sum(row[0] for row in rows) / 1e6:.0f} MB")
    for bytes_, name, version in rows:
        if bytes_ >= 1_000_000:
            print(f"  {bytes_ / 1e6:7.1f} MB  {name} {version}")
    idle = [row for row in rows if row[1] not in imported]
    print(f"  never imported: {sum(row[0] for row in idle) / 1e6:.1f} MB")
    for bytes_, name, version in idle:
        print(f"  {bytes_ / 1e6:7.1f} MB  {name} {version}")
    if others := sorted({name.partition(".")[0] for name in absent}):
        print(f"  imported where they are there: {', '.join(others)}")


if __name__ == "__main__":
    main(sys.argv[1])
