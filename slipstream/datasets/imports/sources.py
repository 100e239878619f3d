"""Files to import: paths, folders and URLs, opened as plain bytes whatever compresses them."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.fs as pa_fs

_COMPRESSIONS: Final = ((b"\x1f\x8b", "gzip"), (b"BZh", "bz2"), (b"\x28\xb5\x2f\xfd", "zstd"))
_ZIP: Final = b"PK\x03\x04"
_PARQUET: Final = b"PAR1"
# Files of a folder that writers leave beside the data.
_BESIDE_DATA: Final = ("_", ".")
_MOST_FILES: Final = 10_000


class ImportFileError(ValueError):
    """A file can't be opened or understood. The message names the file and says what to do."""


@dataclass(frozen=True)
class ExportFile:
    """A file on a disk or in an object store.

    Attributes:
        name: The name for people, as they gave it.
        size: Bytes, compressed as it is.
    """

    name: str
    filesystem: Any
    path: str
    size: int

    @property
    def stem(self) -> str:
        """The name without folders and suffixes."""
        return Path(self.path).name.partition(".")[0] or "export"

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """The file's bytes, as they stand.

        Raises:
            ImportFileError: It can't be read.
        """
        try:
            with self.filesystem.open_input_file(self.path) as stream:
                yield stream
        except (OSError, pa.ArrowInvalid) as error:
            raise ImportFileError(f"{self.name}: can't be read: {error}") from error

    def is_parquet(self) -> bool:
        """Whether the file is Parquet, by its first bytes."""
        with self.opened() as stream:
            return stream.read(len(_PARQUET)) == _PARQUET

    @contextmanager
    def unpacked(self) -> Iterator[IO[bytes]]:
        """The file's bytes, without gzip, bzip2, Zstandard or the ZIP archive around them.

        Raises:
            ImportFileError: It can't be read, or is an archive of several files.
        """
        with self.opened() as stream:
            magic = stream.read(4)
            stream.seek(0)
            if magic == _ZIP:
                try:
                    with zipfile.ZipFile(stream) as archive:
                        member = _only_member(archive, self.name)
                        with archive.open(member) as content:
                            yield content
                except (zipfile.BadZipFile, RuntimeError) as error:  # RuntimeError: a password
                    raise ImportFileError(f"{self.name}: can't be read: {error}") from error
                return
            for beginning, codec in _COMPRESSIONS:
                if magic.startswith(beginning):
                    with pa.CompressedInputStream(stream, codec) as content:
                        yield content
                    return
            yield stream


def find_files(where: str) -> list[ExportFile]:
    """The files of a path, a folder, or a URL such as `s3://bucket/folder`, by name.

    Raises:
        ImportFileError: There are none, or the store can't be reached.
    """
    try:
        if "://" in where:
            filesystem, path = pa_fs.FileSystem.from_uri(where)
        else:
            filesystem, path = pa_fs.LocalFileSystem(), str(Path(where).absolute())
        info = filesystem.get_file_info(path)
        if info.type == pa_fs.FileType.File:
            return [ExportFile(where, filesystem, path, info.size)]
        if info.type == pa_fs.FileType.NotFound:
            raise ImportFileError(f"{where}: there is no such file or folder")
        found = filesystem.get_file_info(pa_fs.FileSelector(path, recursive=True))
    except (OSError, pa.ArrowInvalid) as error:
        raise ImportFileError(f"{where}: can't be read: {error}") from error
    files = []
    for entry in sorted(found, key=lambda entry: str(entry.path)):
        beneath = str(entry.path).removeprefix(path).lstrip("/")
        hidden = any(part.startswith(_BESIDE_DATA) for part in beneath.split("/"))
        if entry.type == pa_fs.FileType.File and entry.size and not hidden:
            name = f"{where.rstrip('/')}/{beneath}"
            files.append(ExportFile(name, filesystem, entry.path, entry.size))
    if not files:
        raise ImportFileError(f"{where}: the folder has no files")
    if len(files) > _MOST_FILES:
        raise ImportFileError(f"{where}: the folder has over {_MOST_FILES:,} files; name a part")
    return files


def _only_member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    members = [
        member
        for member in archive.infolist()
        if not member.is_dir() and not member.filename.startswith("__MACOSX/")
    ]
    if len(members) != 1:
        raise ImportFileError(f"{name}: the archive has {len(members)} files; unpack it first")
    return members[0]
