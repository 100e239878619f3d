"""Findings of checks of a shop's data: their weight, and words for their figures."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any


class Weight(IntEnum):
    """The weight of a finding; that of the heaviest one is the command's exit status.

    `NOTE`: worth knowing. `WARNING`: recommendations are worse than they could be. `CRITICAL`: a
    part is unavailable, or data are or will be missing.
    """

    NOTE = 0
    WARNING = 1
    CRITICAL = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding of one check. `check` is a stable name; `remedy` a command or page that helps."""

    check: str
    weight: Weight
    figure: str
    why: str
    remedy: str
    # Share of the data that it is about, where that decides what follows.
    share: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return the finding for programs; the weight is its name."""
        return {**asdict(self), "weight": self.weight.name.lower()}


def share(part: int, whole: int, noun: str) -> str:
    """A part of a whole in words: "2 of 5 events (40 %)"; `noun` is a plural."""
    return f"{part:,} of {whole:,} {noun} ({100 * part / whole:.0f} %)"


def counted(count: int, noun: str) -> str:
    """A number with its noun, such as "1 item" or "2 items"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def some(names: Iterable[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    listed = [name if len(name) <= 40 else name[:39] + "…" for name in names]
    more = f" and {len(listed) - most:,} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
