"""Exports of a shop's first day, imported as they are (`make first-day`).

Each folder of `tests/data` has the files of one kind of shop and what they say, `expected.jsonl`.
The command sends to a server that keeps what it gets, and ingestion's readers make records of that.
"""

import json
import re
import shlex
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, Final
from unittest.mock import patch

from click.testing import CliRunner, Result

from services.ingestion.catalog_entries import read_entry
from services.ingestion.intake_rules import IntakeRules
from services.ingestion.outcomes import Acceptance, Origin
from services.ingestion.segment import read_message
from slipstream.contracts.events import CatalogRecord, NewInteraction
from slipstream_cli import imports
from slipstream_cli.__main__ import cli
from tests.unit.datasets.ingestion_double import Collector

DATA: Final = Path(__file__).parent / "data"
KINDS: Final = sorted(path.name for path in DATA.iterdir())
EXPECTED: Final = "expected.jsonl"
_PROMPT: Final = re.compile(r"\[[^\]\n]+\]: ")
_ROWS: Final = re.compile(r"^(\S+): (\d+) rows?: ", re.MULTILINE)
_OPTION: Final = re.compile(r"--(?:map|event-type) (?:'[^']+'|[^\s?]+)")
_ORIGIN: Final = Origin("shop", "request", 1_800_000_000_000, imported=True)
_MOST_ANSWERS: Final = 9


@dataclass(frozen=True)
class Outcome:
    """What came of an import.

    Attributes:
        rows: Rows read.
        right: Events and items that arrived as the file means them.
        damaged: Those that arrived otherwise, or not at all.
        asked: Questions; `by_enter` of them were answered by Enter alone.
        output: What the command printed.
    """

    rows: int
    right: int
    damaged: int
    asked: int
    by_enter: int
    output: str


def outcome(kind: str, *, at_terminal: bool) -> Outcome:
    """Import the files of a kind: at a terminal by Enter, else with the options that errors name.

    Args:
        kind: A folder of `tests/data`.
        at_terminal: Whether somebody can be asked.
    """
    options: list[str] = []
    while True:
        with collecting() as collector:
            answer = _import(kind, collector.url, options, at_terminal=at_terminal)
        named = _OPTION.findall(answer.output.partition("Error:")[2])
        if at_terminal or not named or len(options) > _MOST_ANSWERS:
            break
        options += shlex.split(named[0])
    meant, arrived = _meant(kind), Counter(map(_key, _arrived(collector)))
    right = (meant & arrived).total()
    # The last prompt asks whether to send.
    prompts = max(len(_PROMPT.findall(answer.output)) - 1, 0) if at_terminal else 0
    return Outcome(
        rows=sum(map(int, dict(_ROWS.findall(answer.output)).values())),
        right=right,
        damaged=max(meant.total(), arrived.total()) - right,
        asked=prompts if at_terminal else len(options) // 2,
        by_enter=prompts,
        output=answer.output,
    )


def _import(kind: str, url: str, options: list[str], *, at_terminal: bool) -> Result:
    files = [str(path) for path in sorted((DATA / kind).iterdir()) if path.name != EXPECTED]
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(imports, "is_asked", lambda: at_terminal),
    ):
        where = ["--url", url, "--data-dir", folder, "--rejected", f"{folder}/rejected.csv"]
        yes = [] if at_terminal else ["--yes"]
        command = ["import", *files, *options, *where, *yes]
        return CliRunner().invoke(cli, command, input="\n" * _MOST_ANSWERS)


@contextmanager
def collecting() -> Iterator[Collector]:
    """A server that keeps what it is sent."""
    collector = Collector()
    thread = Thread(target=collector.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield collector
    finally:
        collector.shutdown()
        thread.join()
        collector.server_close()


def _meant(kind: str) -> Counter[str]:
    lines = (DATA / kind / EXPECTED).read_text("utf-8").splitlines()
    return Counter(_key(json.loads(line)) for line in lines)


def _arrived(collector: Collector) -> Iterator[dict[str, Any]]:
    """What ingestion makes of all that was sent, in the form of the expected lines."""
    rules = IntakeRules()
    for path, body, _ in collector.bodies:
        of_items = path == "/v1/items"
        for entry in body["items" if of_items else "batch"]:
            read = (
                read_entry(entry, "item", _ORIGIN, rules)
                if of_items
                else read_message(entry, None, {}, _ORIGIN, rules)
            )
            yield from _lines(read.records) if isinstance(read, Acceptance) else [{"bad": entry}]


def _lines(records: Iterable[Any]) -> Iterator[dict[str, Any]]:
    for record in records:
        if isinstance(record, NewInteraction):
            yield {
                "visitor": record.user_id, "type": record.event_type, "item": record.item_id,
                "at": record.timestamp, "price": record.properties.get("price"),
                "quantity": record.properties.get("quantity"),
                "order": record.properties.get("order_id"),
            }  # fmt: skip
        elif isinstance(record, CatalogRecord) and record.entity == "item":
            yield {"item_id": record.entity_id, **record.attributes, "available": record.available}
        elif isinstance(record, CatalogRecord) and record.entity == "user":
            at, traits = record.timestamp, record.attributes
            yield {"visitor": record.entity_id, "type": "identify", "at": at, "traits": traits}


def _key(said: dict[str, Any]) -> str:
    """What is said, for comparison: of items, only the fields that the expected lines have."""
    if "item_id" in said:
        said = {"available": True, **{name: said[name] for name in _ITEM if name in said}}
    return json.dumps({k: v for k, v in said.items() if v is not None}, sort_keys=True)


_ITEM: Final = (
    "item_id", "title", "description", "brand", "category", "categories", "image_url", "url",
    "item_group_id", "price", "currency", "stock", "status", "available",
)  # fmt: skip


def main() -> int:
    """Print the outcome of each kind, both ways; returns 1 where something is damaged."""
    print(f"{'':<18}{'':<10}{'rows':>6}{'right':>7}{'damaged':>9}{'asked':>7}{'by Enter':>10}")
    damaged = 0
    for kind in KINDS:
        for at_terminal in (False, True):
            found = outcome(kind, at_terminal=at_terminal)
            damaged += found.damaged
            print(
                f"{kind:<18}{'terminal' if at_terminal else '--yes':<10}{found.rows:>6}"
                f"{found.right:>7}{found.damaged:>9}{found.asked:>7}{found.by_enter:>10}"
            )
            if found.damaged:
                print(found.output)
    return 1 if damaged else 0


if __name__ == "__main__":
    sys.exit(main())
