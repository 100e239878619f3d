"""Artifacts: a directory for each model bundle, and a report of each, in a folder on disk.

Who has no such folder fetches the files of a bundle from training.
"""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from slipstream.chassis.client import Peer
from slipstream.chassis.settings import ArtifactSettings
from slipstream.contracts.bundle import Manifest

# A version becomes a directory's name, and must not lead out of the folder.
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class ArtifactNotFoundError(LookupError):
    """There is no bundle of this version."""


class ForeignFileError(ValueError):
    """A manifest names a file outside its folder."""


class Artifacts:
    """Bundle directories by version. A directory appears whole, and never changes afterwards."""

    def __init__(self, settings: ArtifactSettings) -> None:
        self.root = settings.directory.absolute()
        self._bundles, self._reports = self.root / "bundles", self.root / "reports"

    def put(self, version: str, directory: Path) -> Path:
        """Keep a copy of the directory as this version; returns its path.

        Raises FileExistsError for a version that is kept already, ValueError for one that can't be
        a file name.
        """
        target = self.place(version)
        if target.exists():
            raise FileExistsError(f"version {version} is already kept; a bundle never changes")
        self._bundles.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{version}.", dir=self._bundles))
        try:
            shutil.copytree(directory, partial, dirs_exist_ok=True)
            partial.rename(target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return target

    def path(self, version: str) -> Path:
        """The version's directory, to read from. Raises ArtifactNotFoundError."""
        if not _VERSION.fullmatch(version) or not (path := self._bundles / version).is_dir():
            raise ArtifactNotFoundError(f"no bundle of version {version} is kept")
        return path

    def put_report(self, version: str, page: str) -> Path:
        """Keep a page (HTML) about this version, in place of the one before; returns its path."""
        target = self._reports / f"{self.place(version).name}.html"
        self._reports.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}")
        partial.write_text(page, encoding="utf-8")
        return partial.replace(target)

    def report(self, version: str) -> Path:
        """The page about this version. Raises ArtifactNotFoundError."""
        if (
            not _VERSION.fullmatch(version)
            or not (path := self._reports / f"{version}.html").is_file()
        ):
            raise ArtifactNotFoundError(f"no report of version {version} is kept")
        return path

    def versions(self) -> list[str]:
        """All versions, ascending."""
        if not self._bundles.is_dir():
            return []
        return sorted(
            entry.name for entry in self._bundles.iterdir() if not entry.name.startswith(".")
        )

    def delete(self, version: str) -> None:
        """Remove a version and its report.

        The directory is renamed first, so that no reader sees it half removed.
        """
        path = self.path(version)
        (self._reports / f"{version}.html").unlink(missing_ok=True)
        doomed = path.with_name(f".{version}.deleted")
        path.rename(doomed)
        shutil.rmtree(doomed)

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """An empty directory on the same disk, removed afterwards."""
        self.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=".work-", dir=self.root, ignore_cleanup_errors=True
        ) as directory:
            yield Path(directory)

    def sweep(self) -> None:
        """Remove the half-written files of a killed process.

        Only the writing service calls it, before it writes.
        """
        for leftover in (*self.root.glob(".work-*"), *self._bundles.glob(".*")):
            shutil.rmtree(leftover, ignore_errors=True)
        for unfinished in self._reports.glob(".*"):
            unfinished.unlink(missing_ok=True)

    def place(self, version: str) -> Path:
        """The version's path, kept or not. Raises ValueError where it can't be a file name."""
        if not _VERSION.fullmatch(version):
            raise ValueError(
                f"{version!r} can't name a bundle: letters, digits, '.', '_' and '-', at most 128"
            )
        return self._bundles / version


def fetched_manifest(training: Peer, version: str, folder: Path) -> bytes:
    """The manifest of a version, downloaded into a folder. Raises PeerError."""
    training.download(f"{_files(version)}/manifest.json", folder / "manifest.json")
    return (folder / "manifest.json").read_bytes()


def fetch_files(training: Peer, version: str, manifest: bytes, folder: Path) -> None:
    """Download the files that a manifest names.

    Raises PeerError, and ForeignFileError where the manifest names a file outside its folder.
    """
    for name in Manifest.model_validate_json(manifest).files:
        if Path(name).name != name:
            raise ForeignFileError(f"the manifest names a file outside its folder: {name}")
        training.download(f"{_files(version)}/{quote(name, safe='')}", folder / name)


def _files(version: str) -> str:
    return f"/v1/models/{quote(version, safe='')}/files"
