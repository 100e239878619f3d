"""Files to import: paths, folders and URLs, opened as plain bytes whatever compresses them.

A file has one of a few forms. A text file has an encoding, and lines, none of which is held longer
than is needed.
"""

import codecs
import io
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Literal, NamedTuple

import pyarrow as pa
import pyarrow.fs as pa_fs

_COMPRESSIONS: Final = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"))
_ZIP: Final = b"PK\x03\x04"
_PARQUET: Final = b"PAR1"
# The beginning of Excel's older files, .xls.
_OLE: Final = b"\xd0\xcf\x11\xe0"
_SPREADSHEET: Final = "{name}: Excel files aren't read: save as CSV (UTF-8)"
# Prefixes of files that writers leave next to the data.
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
        """The file's bytes, without gzip, Zstandard or the ZIP archive around them.

        Raises:
            ImportFileError: It can't be read, or is an archive of several files.
        """
        with self.opened() as stream:
            magic = stream.read(4)
            stream.seek(0)
            if magic == _OLE:
                raise ImportFileError(_SPREADSHEET.format(name=self.name))
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
    if any(each.startswith("xl/") or each == "content.xml" for each in archive.namelist()):
        raise ImportFileError(_SPREADSHEET.format(name=name))
    members = [
        member
        for member in archive.infolist()
        if not member.is_dir() and not member.filename.startswith("__MACOSX/")
    ]
    if len(members) != 1:
        raise ImportFileError(
            f"{name}: the archive holds {len(members)} files, and one is expected: unpack it, and"
            " name the folder"
        )
    return members[0]


# A longer line is no row of an export, and is not held in memory.
MOST_CHARACTERS: Final = 2_000_000
_CHUNK: Final = 1 << 20
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Bytes that cp1252 has no character for.
_UNDEFINED: Final = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")
# One bad byte among this many good characters of several bytes is a slip, not another encoding.
_SLIPS: Final = 10


def find_encoding(file: ExportFile) -> str:
    """The encoding of a text file: that of its byte order mark, UTF-8, or else cp1252 or Latin-1.

    All bytes are read, since the first accent may stand in the last line. UTF-8 with a few bad
    bytes is UTF-8; those bytes stay visible as surrogates (`decoded`).
    """
    good = bad = 0
    undefined = False
    with file.unpacked() as stream:
        first = stream.read(_CHUNK)
        for mark, encoding in _BOMS:
            if first.startswith(mark):
                return encoding
        if (guess := _utf16(first)) is not None:
            return guess
        decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        chunk = first
        while chunk:
            if not chunk.isascii() or decoder.getstate()[0]:
                text = decoder.decode(chunk)
                strange = len(re.findall(r"[^\x00-\x7f]", text))
                errors = len(re.findall(r"[\udc80-\udcff]", text))
                good, bad = good + strange - errors, bad + errors
                undefined = undefined or bool(_UNDEFINED.search(chunk))
            chunk = stream.read(_CHUNK)
    if bad * _SLIPS <= good:
        return "utf-8"
    return "latin-1" if undefined else "cp1252"


def _utf16(beginning: bytes) -> str | None:
    """UTF-16 without a mark: in Western text every other byte is NUL."""
    half = len(beginning) // 2
    if half < 2:
        return None
    if beginning[1::2].count(0) > 0.7 * half and beginning[::2].count(0) < 0.1 * half:
        return "utf-16-le"
    if beginning[::2].count(0) > 0.7 * half and beginning[1::2].count(0) < 0.1 * half:
        return "utf-16-be"
    return None


def lines(stream: IO[bytes], encoding: str, name: str) -> Iterator[str]:
    """The lines of a text with their ends; bad bytes of UTF-8 are lone surrogates.

    Raises:
        ImportFileError: A line is longer than `MOST_CHARACTERS`, or the encoding does not fit.
    """
    errors = "surrogateescape" if encoding.startswith("utf-8") else "strict"
    content: Any = stream
    text = io.TextIOWrapper(content, encoding, errors, newline="")
    try:
        while line := text.readline(MOST_CHARACTERS):
            if len(line) == MOST_CHARACTERS:
                raise ImportFileError(
                    f"{name}: a line has over {MOST_CHARACTERS:,} characters; is it a text file?"
                )
            yield line
    except UnicodeError as error:
        raise ImportFileError(
            f"{name}: is not {encoding}: {error}; name its encoding with --encoding"
        ) from error
    finally:
        with suppress(ValueError):  # the stream was closed before this generator
            text.detach()


def has_bad_bytes(value: Any) -> bool:
    """Whether a cell or a line has bytes that its encoding does not have."""
    return isinstance(value, str) and not value.isascii() and bool(_SURROGATES.search(value))


_SURROGATES: Final = re.compile(r"[\ud800-\udfff]")


DELIMITERS: Final = (",", ";", "\t", "|")
DELIMITER_NAMES: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "pipes"}

Format = Literal["csv", "json lines", "json array", "parquet", "merchant feed"]


class Row(NamedTuple):
    """A row, with the number of its first line (1-based), or of the row itself in Parquet.

    `fault` says why the row can't be read at all; then `cells` has what there is of it.
    """

    line: int
    cells: dict[str, Any]
    fault: str = ""


@dataclass(frozen=True)
class FileForm:
    """The form of a file: its format, and of a text its encoding and delimiter.

    `columns` are in the order of the file; of JSON and feeds, those of the first rows. Parts of
    objects are columns with dotted paths. `lines` is the path of a list that has an order's lines.
    """

    format: Format
    columns: tuple[str, ...] = ()
    encoding: str = ""
    delimiter: str = ""
    # Lines before the header: Excel's `sep=;`, or empty ones.
    skipped: int = field(default=0, repr=False)
    lines: str = ""
