"""Folders of downloaded bundles, named by their content."""

import hashlib
from pathlib import Path


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
