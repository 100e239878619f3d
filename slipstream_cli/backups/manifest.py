"""The manifest of a backup, and the checksums of its files."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ValidationError

from slipstream.stores.sql_rows import TableCopy

MANIFEST: Final = "manifest.json"
# In the form of sha256sum, which can check it, too.
CHECKSUMS: Final = "SHA256SUMS"
_FORMAT: Final = 1
_CHUNK: Final = 1 << 20


class BackupError(Exception):
    """A backup can't be made, read or restored; the text says why and what to do."""


class DatabaseCopy(BaseModel):
    """The copied tables of one database, and the revisions of its schemas by version table."""

    folder: str
    tables: list[TableCopy]
    revisions: dict[str, str]


class LakePointer(BaseModel):
    """The version of a table of the lake at the time of the backup, and its number of rows."""

    table: str
    version: int
    rows: int


class BackupManifest(BaseModel):
    """The contents of a backup. `taken_at` (ms) is the time before which SQL was read."""

    format: int = _FORMAT
    taken_at: int
    namespace: str
    program: str
    models_folder: str
    databases: list[DatabaseCopy]
    bundles: list[str]
    lake: list[LakePointer]

    @property
    def rows(self) -> int:
        """Rows of all tables together."""
        return sum(table.rows for database in self.databases for table in database.tables)


def seal(folder: Path, manifest: BackupManifest, on_file: Callable[[str], None]) -> None:
    """Write the manifest, and the checksums of all files."""
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    sums = []
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        on_file(name)
        sums.append(f"{_digest(path)}  {name}\n")
    (folder / CHECKSUMS).write_text("".join(sums), encoding="utf-8")


def verified(folder: Path, on_file: Callable[[str], None]) -> BackupManifest:
    """The manifest of a backup, after a check that its files are complete and unchanged.

    Raises:
        BackupError: The folder is no backup, or a file is missing, changed or not in the list.
    """
    try:
        lines = (folder / CHECKSUMS).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise BackupError(f"{folder} is not a complete backup: it has no {CHECKSUMS}") from error
    wanted = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    present = {path.relative_to(folder).as_posix() for path in _files(folder)}
    if strange := sorted(wanted.keys() ^ present):
        raise BackupError(f"files of the backup are missing or were added: {', '.join(strange)}")
    for name, digest in wanted.items():
        on_file(name)
        if _digest(folder / name) != digest:
            raise BackupError(f"{folder / name} is not what was backed up: its checksum differs")
    try:
        manifest = BackupManifest.model_validate_json((folder / MANIFEST).read_bytes())
    except ValidationError as error:
        raise BackupError(f"{folder / MANIFEST} can't be read: {error}") from error
    if manifest.format != _FORMAT:
        raise BackupError(f"the backup has format {manifest.format}; this program reads {_FORMAT}")
    return manifest


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != CHECKSUMS:
            yield path


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
