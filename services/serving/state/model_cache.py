"""The cache of bundles on disk: a folder for each, and lists of those that are in use.

Bundles come from training, and their folders are named by their manifest's digest. Each list is of
one owner, such as the champion's holder, and survives a restart. A bundle that no list names is
deleted. Other files in the cache folder stay untouched.
"""

import hashlib
import json
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from slipstream.chassis.client import Peer, PeerError
from slipstream.chassis.logging import get_logger
from slipstream.contracts.vocabulary import CHAMPION
from slipstream.recommender.bundle import Bundle, BundleError, load_bundle
from slipstream.stores.artifacts import fetch_files, fetched_manifest

log = get_logger(__name__)

# The owners of lists: the holder of the champion, and that of the models of variants.
VARIANTS: Final = "variants"
_LISTS: Final = {CHAMPION: "models.json", VARIANTS: "variant-models.json"}
_INCOMING: Final = ".slipstream-incoming"


@dataclass(frozen=True)
class Place:
    """The version of a bundle, its folder, and its manifest as training sent it."""

    version: str
    directory: Path
    manifest: bytes

    @property
    def entry(self) -> dict[str, str]:
        """Its entry in a list."""
        return {"version": self.version, "directory": self.directory.name}


class ModelCache:
    """The cache folder of one service. An owner uses it from one thread.

    Args:
        training: The service that has the files.
    """

    def __init__(self, training: Peer, folder: Path) -> None:
        self._training, self._folder = training, folder
        # Folders that an owner is about to use, and that its list does not name yet.
        self._claims: dict[str, set[str]] = {owner: set() for owner in _LISTS}
        self._lock = threading.Lock()

    def place(self, version: str, owner: str) -> Place:
        """The place of a version's bundle, by the manifest that training has for it now.

        Raises PeerError.
        """
        incoming = self._incoming(owner)
        shutil.rmtree(incoming, ignore_errors=True)
        incoming.mkdir(parents=True)
        manifest = fetched_manifest(self._training, version, incoming)
        directory = self._folder / folder_name(manifest)
        with self._lock:
            self._claims[owner].add(directory.name)
        return Place(version, directory, manifest)

    def bundle(self, place: Place, owner: str, make_room: Callable[[], None]) -> Bundle:
        """The verified bundle, downloaded where it is missing or damaged.

        Raises PeerError, BundleError and OSError.

        Args:
            make_room: Called before the bundle is loaded into memory.
        """
        if place.directory.exists():
            make_room()
            try:
                return load_bundle(place.directory)
            except BundleError as error:
                log.warning(
                    "the cached bundle is damaged and fetched again",
                    version=place.version,
                    reason=str(error),
                )
                shutil.rmtree(place.directory)
        incoming = self._incoming(owner)
        fetch_files(self._training, place.version, place.manifest, incoming)
        make_room()
        bundle = load_bundle(incoming)
        incoming.rename(place.directory)
        return bundle

    def folder_of(self, entry: dict[str, str]) -> Path:
        """The folder of a list's entry."""
        return self._folder / entry["directory"]

    def discard_incoming(self, owner: str) -> None:
        """Delete what an owner has downloaded in part."""
        shutil.rmtree(self._incoming(owner), ignore_errors=True)

    def listed(self, owner: str) -> list[dict[str, str]]:
        """The owner's list, each entry with `version` and `directory`; empty without one."""
        try:
            text = (self._folder / _LISTS[owner]).read_text()
            return [dict(entry) for entry in json.loads(text)]
        except (OSError, ValueError):
            return []

    def is_emptied(self, owner: str) -> bool:
        """Whether the owner has written a list without entries."""
        try:
            return (self._folder / _LISTS[owner]).read_text() == "[]"
        except OSError:
            return False

    def put_list(self, owner: str, entries: Sequence[dict[str, str]]) -> None:
        """Replace the owner's list, and drop all bundles that no list names.

        Other files stay: an operator may have named a folder that holds more than bundles.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / _LISTS[owner]
        part = path.with_name(f"{path.name}.part")
        with self._lock:
            part.write_text(json.dumps(list(entries)))
            part.rename(path)
            self._claims[owner].clear()
            kept = set[str]().union(*self._claims.values())
            kept.update(each["directory"] for name in _LISTS for each in self.listed(name))
            for bundle in self._folder.iterdir():
                if bundle.name not in kept and is_bundle(bundle):
                    shutil.rmtree(bundle, ignore_errors=True)

    def _incoming(self, owner: str) -> Path:
        return self._folder / f"{_INCOMING}-{owner}"


def is_deleted(training: Peer, version: str) -> bool:
    """Whether training says that it has deleted the version, as it does after an erasure."""
    try:
        training.get(f"/v1/models/{quote(version, safe='')}")
    except PeerError as error:
        return error.status == 410
    return False


def folder_name(manifest: bytes) -> str:
    """The name of a bundle's folder, from its manifest."""
    return hashlib.sha256(manifest).hexdigest()[:32]


def is_bundle(path: Path) -> bool:
    """Whether the folder is a bundle of this cache: its name is the digest of its manifest."""
    try:
        return not path.is_symlink() and path.name == folder_name(
            (path / "manifest.json").read_bytes()
        )
    except OSError:
        return False
