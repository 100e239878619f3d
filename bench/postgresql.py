"""PostgreSQL from Debian's package or from the path, and its databases."""

import os
import pwd
import shutil
import signal
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from slipstream_cli.local.processes import Child, StartError, free_port
from slipstream_cli.local.servers import ask, version_of

HOW_TO_GET: Final = "Debian, Ubuntu: apt-get install postgresql"
# The only role of a server that is made here; it has no password.
_ROLE: Final = "slipstream"
# The user that Debian's package creates. PostgreSQL refuses to run as root.
_SYSTEM_USER: Final = "postgres"
# StartupMessage 3.0. The answer begins with R (authentication) once it takes connections, and with
# E until then.
_STARTUP: Final = struct.pack(">i", 3 << 16) + f"user\0{_ROLE}\0database\0postgres\0\0".encode()
_START_S, _GRACE_S = 60.0, 20.0


def binaries() -> Path | None:
    """Find the folder of `initdb` and `postgres`: Debian's newest version, or that on the path."""
    debian = [path.parent for path in Path("/usr/lib/postgresql").glob("[0-9]*/bin/initdb")]
    if debian:
        return max(debian, key=lambda folder: int(folder.parent.name))
    initdb = shutil.which("initdb")
    return Path(initdb).resolve().parent if initdb else None


def postgresql(port: int, directory: Path, *, durable: bool = True) -> Child:
    """Build a PostgreSQL that takes local connections without a password.

    Where this process is root's, the server runs as the user `postgres`, which must be able to
    enter the folder.

    Args:
        port: Where it listens, on 127.0.0.1 only.
        directory: Folder of its data, which are made here where it has none.
        durable: Whether a commit waits for the disk. Without, a crash of the machine may lose data.

    Raises:
        StartError: PostgreSQL is not installed, or can't make its data.
    """
    data = directory.resolve() / "data"
    directory.mkdir(parents=True, exist_ok=True)
    if user := _system_user():
        shutil.chown(directory, user)
    if not (data / "PG_VERSION").exists():
        _run(
            "initdb",
            ["-D", str(data), "-U", _ROLE, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"],
            user,
        )
    settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "timezone": "UTC"}
    if not durable:
        settings |= {"fsync": "off", "full_page_writes": "off"}
    command = [_binary("postgres"), "-D", str(data), "-p", str(port)]
    command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return Child(
        "postgresql",
        port,
        command,
        _answers,
        grace_s=_GRACE_S,
        start_s=_START_S,
        stop_signal=signal.SIGINT,  # SIGTERM would wait for the clients to go; this sends them away
        user=user,
    )


@contextmanager
def temporary_postgresql(*, durable: bool) -> Iterator[Child]:
    """Run a PostgreSQL with temporary data on a free port for the block.

    `durable` is that of `postgresql`.
    """
    with tempfile.TemporaryDirectory(prefix="slipstream-postgresql-") as folder:
        Path(folder).chmod(0o755)  # the server is another user than root
        server = postgresql(free_port(), Path(folder), durable=durable).start()
        try:
            yield server
        finally:
            server.kill()


def version() -> str:
    """Return the version of the installed server.

    Raises:
        StartError: It is not installed.
    """
    return version_of(_binary("postgres"))


def create_database(server: Child, name: str) -> str:
    """Make an empty database, and return its URL for `SLIPSTREAM_DATABASE__URL`.

    Raises:
        StartError: The database can't be made.
    """
    _run("createdb", _connection(server, name))
    return f"postgresql+psycopg://{_ROLE}@{server.address}/{name}"


def drop_database(server: Child, name: str) -> None:
    """Delete a database, also while clients are connected.

    Raises:
        StartError: The database can't be deleted.
    """
    _run("dropdb", ["--force", *_connection(server, name)])


def _connection(server: Child, name: str) -> list[str]:
    return ["-h", "127.0.0.1", "-p", str(server.port), "-U", _ROLE, name]


def _answers(port: int) -> bool:
    return ask(port, struct.pack(">i", len(_STARTUP) + 4) + _STARTUP).startswith(b"R")


def _run(program: str, arguments: Sequence[str], user: str | None = None) -> None:
    done = subprocess.run(
        [_binary(program), *arguments],
        user=user,
        extra_groups=[] if user else None,
        cwd="/",  # the user need not be able to enter ours
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise StartError(f"PostgreSQL's {program} failed: {done.stderr.strip()}")


def _binary(name: str) -> str:
    folder = binaries()
    if folder is None:
        raise StartError(f"PostgreSQL is not installed; {HOW_TO_GET}")
    return str(folder / name)


def _system_user() -> str | None:
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(_SYSTEM_USER).pw_name
    except KeyError as error:
        raise StartError(
            f"PostgreSQL refuses to run as root, and there is no user {_SYSTEM_USER}; {HOW_TO_GET}"
        ) from error
