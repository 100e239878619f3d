"""A model in service."""

from dataclasses import dataclass
from pathlib import Path

from slipstream.recommender.bundle import Bundle


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded bundle, its version in the registry, and the time of loading (ms)."""

    version: str
    bundle: Bundle
    directory: Path
    loaded_at: int

    @property
    def entry(self) -> dict[str, str]:
        """Its entry in a list of the cache: the version, and the content that names the folder."""
        return {"version": self.version, "directory": self.directory.name}
