"""Findings of an examination in their order, the exit status, and the limits of reading."""

from collections.abc import Iterable
from dataclasses import dataclass

from slipstream.evaluation.findings import Finding


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that is read, so that a large stack is looked at in seconds.

    Attributes:
        events: Rows of the lake's newest interactions.
        event_bytes: Their bytes in memory.
        items: Entries of the catalogue.
        letters: Dead letters.
        seconds: Time for each of these.
    """

    events: int = 200_000
    event_bytes: int = 128 * 2**20
    items: int = 20_000
    letters: int = 20_000
    seconds: float = 10.0


def by_weight(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings, heaviest first; those of one weight stay in their order."""
    return sorted(findings, key=lambda finding: -finding.weight)


def exit_status(findings: Iterable[Finding]) -> int:
    """The exit status: 0 without findings or with notes alone, 1 with warnings, 2 with critical
    ones.
    """
    return max((int(finding.weight) for finding in findings), default=0)
