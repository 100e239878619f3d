"""Object store: files that several machines share, under a folder or a prefix of an S3 bucket."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.fs as pa_fs

from slipstream.chassis.dependencies import DependencyUnavailableError

# delta-rs' names of S3's options, and pyarrow's for the same.
_S3_OPTIONS: Final = {
    "AWS_ACCESS_KEY_ID": "access_key",
    "AWS_SECRET_ACCESS_KEY": "secret_key",
    "AWS_SESSION_TOKEN": "session_token",
    "AWS_REGION": "region",
    "AWS_ENDPOINT_URL": "endpoint_override",
}
_TIMEOUT_S: Final = 30.0
# Times that a file is read which is replaced meanwhile.
_READS: Final = 5
# Ending of a file in a folder that is being written.
_PARTIAL: Final = ".partial"


class ObjectStoreUnavailableError(DependencyUnavailableError):
    """The store can't be read or written now: it is full, away, or refuses access."""

    dependency = "object store"


class ObjectStore:
    """Files by name under a folder or `s3://bucket/prefix`. Threads may share it.

    A file that is put or written appears whole, in place of the one before. Methods raise
    ObjectStoreUnavailableError.

    Args:
        uri: The folder or prefix. Nothing is made before the first file is written.
        options: Options of S3 under delta-rs' names, as the lake takes them. Without keys, the
            machine's own credentials are used. Options that are no part of `_S3_OPTIONS` are left
            out.

    Raises:
        ValueError: The URI is of another kind.
    """

    def __init__(self, uri: str, options: Mapping[str, str] | None = None) -> None:
        scheme, separator, rest = uri.partition("://")
        place = rest.rstrip("/")
        self._options = dict(options or {})
        self._local = not separator
        if self._local:
            self.uri = str(Path(uri).absolute())
            # `create_dir` alone can make the folder itself, so names are joined here.
            self._root, self._files = self.uri, pa_fs.LocalFileSystem()
        elif scheme == "s3" and place:
            self.uri, self._root = f"s3://{place}", place
            known = {
                name: self._options[key]
                for key, name in _S3_OPTIONS.items()
                if key in self._options
            }
            self._files = pa_fs.S3FileSystem(
                **known,
                connect_timeout=_TIMEOUT_S,
                request_timeout=_TIMEOUT_S,
                allow_delayed_open=True,  # a small file is one request
            )
        else:
            raise ValueError(f"{uri} is neither a folder nor s3://bucket/prefix")

    def below(self, name: str) -> "ObjectStore":
        """The store of the files with names that begin with `name/`."""
        return ObjectStore(f"{self.uri}/{name}", self._options)

    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is none.

        Of an object, Arrow reads as many bytes as it had when it was opened. Where a shorter one
        has replaced it, other memory follows. So a file that has another size by then is read
        again. It is not noticed where two have replaced it, and the second has the first size.
        """
        path = self._path(name)
        with self._translated(name):
            try:
                for _ in range(_READS):
                    with self._files.open_input_file(path) as file:
                        content: bytes = file.read()
                    if self._files.get_file_info(path).size == len(content):
                        return content
            except FileNotFoundError:
                return None
        raise ObjectStoreUnavailableError(f"{self.uri}/{name} changes whenever it is read")

    def write(self, name: str, content: bytes) -> None:
        """Write a file."""
        with self._translated(name), self._opened(name) as stream:
            stream.write(content)

    def put(self, directory: Path, prefix: str) -> None:
        """Copy the files of a directory, without those of directories in it, below `prefix`."""
        for file in sorted(path for path in directory.iterdir() if path.is_file()):
            self.put_file(file, f"{prefix}/{file.name}")

    def put_file(self, file: Path, name: str) -> None:
        """Copy one file."""
        with self._translated(name), file.open("rb") as source, self._opened(name) as stream:
            while block := source.read(8 * 1024 * 1024):
                stream.write(block)

    def fetch(self, prefix: str, directory: Path) -> None:
        """Copy the files below `prefix`, if there are any, into a directory, which is made."""
        directory.mkdir(parents=True, exist_ok=True)
        for name in self.names(prefix):
            with self._translated(name):
                pa_fs.copy_files(
                    self._path(name),
                    str(directory / name.rpartition("/")[2]),
                    source_filesystem=self._files,
                    destination_filesystem=pa_fs.LocalFileSystem(),
                )

    def names(self, prefix: str = "") -> list[str]:
        """Names of all whole files below a prefix, ascending."""
        root = self._path(prefix) if prefix else self._root
        selector = pa_fs.FileSelector(root, recursive=True, allow_not_found=True)
        with self._translated(prefix):
            found = self._files.get_file_info(selector)
        return sorted(
            info.path.removeprefix(f"{self._root}/")
            for info in found
            if info.type == pa_fs.FileType.File and not info.path.endswith(_PARTIAL)
        )

    def delete(self, name: str) -> None:
        """Delete a file, if there is one."""
        with self._translated(name):
            try:
                self._files.delete_file(self._path(name))
            except FileNotFoundError:
                return

    def clear(self) -> None:
        """Delete all files of this store."""
        with self._translated(""):
            try:
                self._files.delete_dir(self._root)
            except FileNotFoundError:
                return

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _opened(self, name: str) -> Iterator[Any]:
        """A stream of the file, which replaces the former one when the block has ended well."""
        if not self._local:  # an object appears when its stream is closed
            with self._files.open_output_stream(self._path(name)) as stream:
                yield stream
            return
        partial = self._path(name) + _PARTIAL
        self._files.create_dir(partial.rpartition("/")[0], recursive=True)
        with self._files.open_output_stream(partial) as stream:
            yield stream
        self._files.move(partial, self._path(name))

    @contextmanager
    def _translated(self, name: str) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            raise ObjectStoreUnavailableError(f"{self.uri}/{name}: {error}") from error
