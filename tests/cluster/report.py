"""What the demo did, as a table and as JSON."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import click

WIDTH = 34


@dataclass
class Part:
    """One part: rows of a name and what was seen, and what is not as it must be."""

    name: str
    title: str
    rows: list[tuple[str, str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    skipped: str = ""
    seconds: float = 0.0

    def tell(self, name: str, seen: str) -> None:
        """Add a row, and show it at once, for whoever waits."""
        self.rows.append((name, seen))
        click.echo(f"  {name:<{WIDTH}} {seen}")

    def demand(self, holds: bool, fault: str) -> None:
        """Note a fault, unless the condition holds."""
        if not holds:
            self.faults.append(fault)
            click.echo(f"  NOT AS IT MUST BE: {fault}")

    def lines(self) -> Iterator[str]:
        state = f"skipped: {self.skipped}" if self.skipped else f"{self.seconds:.0f} s"
        yield f"{self.title} ({state})"
        yield from (f"  {name:<{WIDTH}} {seen}" for name, seen in self.rows)
        yield from (f"  NOT AS IT MUST BE: {fault}" for fault in self.faults)


@dataclass
class Report:
    """All parts, in the order in which they ran."""

    parts: list[Part] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        return [f"{part.name}: {fault}" for part in self.parts for fault in part.faults]

    @contextmanager
    def part(self, name: str, title: str) -> Iterator[Part]:
        """A part that runs for the length of the block. What it raises, by an assertion or a limit,
        is its fault, and the next part goes on.
        """
        part = Part(name, title)
        self.parts.append(part)
        click.echo(f"{time.strftime('%H:%M:%S')} {title}")
        start = time.monotonic()
        try:
            yield part
        except Exception as error:
            part.demand(False, f"{type(error).__name__}: {error}")
        finally:
            part.seconds = time.monotonic() - start

    def skip(self, name: str, title: str, reason: str) -> None:
        self.parts.append(Part(name, title, skipped=reason))
        click.echo(f"{time.strftime('%H:%M:%S')} {title}: skipped, {reason}")

    def table(self) -> str:
        return "\n".join(line for part in self.parts for line in part.lines())

    def as_json(self) -> list[dict[str, Any]]:
        return [
            {
                "part": part.name,
                "seconds": round(part.seconds, 1),
                "seen": dict(part.rows),
                "faults": part.faults,
                "skipped": part.skipped,
            }
            for part in self.parts
        ]
