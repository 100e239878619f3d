"""Send the originals of letters again, and remember which have been."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson

from services.ingestion.verdicts import NOT_KEPT
from slipstream.datasets.replay import Progress, bodies, post
from slipstream_cli.dead_letters.letters import Letter
from slipstream_cli.dead_letters.originals import (
    LIST_NAME,
    NotReplayableError,
    ReplayEntry,
    replay_entry,
)

# In the data folder. A file, since the message ids that ingestion remembers cover a day and letters
# stay for 30; and not a consumer group's offset, since a choice of letters is not a place in the
# topic.
REPLAYED_FILE = "replayed-dead-letters.jsonl"
ENTRIES_PER_BODY = 500


class ReplayedLetters:
    """Which letters have been replayed: one JSON line each, written once their verdicts are there."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / REPLAYED_FILE
        self._ids = {entry["letter"] for entry in self._entries()}

    def __contains__(self, letter: Letter) -> bool:
        return letter.id in self._ids

    def add(self, verdicts: Iterable[tuple[Letter, str]]) -> None:
        """Remember these, with what ingestion said. A letter that was rejected again is done, too,
        since it has a new one; but not where ingestion keeps none, as of what was too much at once.
        """
        now = int(time.time() * 1000)
        done = [(letter.id, said) for letter, said in verdicts if said not in NOT_KEPT]
        lines = [
            orjson.dumps({"letter": name, "verdict": said, "at": now}) + b"\n"
            for name, said in done
        ]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(b"\n" + b"".join(lines))  # the line before may have been cut short
        self._ids |= {name for name, _ in done}

    def _entries(self) -> Iterator[dict[str, Any]]:
        if not self._path.exists():
            return
        for line in self._path.read_bytes().splitlines():
            try:
                entry = orjson.loads(line)
            except orjson.JSONDecodeError:  # the last line of a process that was killed
                continue
            if isinstance(entry, dict) and "letter" in entry:
                yield entry


@dataclass(slots=True)
class ReplayPlan:
    """What a replay would send, by endpoint. `replayed` letters have been sent before, `superseded`
    ones have a newer entry of the same item or user, `not_replayable` counts the others by the reason
    why they can't be sent.
    """

    sendable: dict[str, list[tuple[Letter, dict[str, Any]]]] = field(default_factory=dict)
    replayed: int = 0
    superseded: int = 0
    not_replayable: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        return sum(map(len, self.sendable.values()))


def prepare(
    letters: list[Letter], memory: ReplayedLetters, now_ms: int, *, again: bool = False
) -> ReplayPlan:
    """Sort out what can be sent. `letters` are in the order of their receipt, and so are those of
    an endpoint.
    """
    prepared = ReplayPlan()
    newest: dict[str, str] = {}
    ways: list[tuple[Letter, ReplayEntry]] = []
    for letter in letters:
        if letter in memory and not again:
            prepared.replayed += 1
            continue
        try:
            way = replay_entry(letter, now_ms)
        except NotReplayableError as error:
            prepared.not_replayable[str(error)] += 1
            continue
        ways.append((letter, way))
        if way.entity:
            newest[way.entity] = letter.id
    for letter, way in ways:
        if way.entity and newest[way.entity] != letter.id:
            prepared.superseded += 1
        else:
            prepared.sendable.setdefault(way.path, []).append((letter, way.entry))
    return prepared


def send(
    prepared: ReplayPlan,
    memory: ReplayedLetters,
    url: str,
    write_key: str,
    progress: Progress = lambda _done, _total: None,
) -> Counter[str]:
    """Send what was prepared, in batches. Raises `ReplayError` when ingestion can't be reached or
    refuses the key; what was answered until then is remembered.
    """
    return asyncio.run(_send(prepared, memory, url, write_key, progress))


async def _send(
    prepared: ReplayPlan, memory: ReplayedLetters, url: str, write_key: str, progress: Progress
) -> Counter[str]:
    verdicts: Counter[str] = Counter()
    done = 0
    async with httpx.AsyncClient(base_url=url, auth=(write_key, ""), timeout=60) as client:
        for path, pairs in prepared.sendable.items():
            letters = iter([letter for letter, _ in pairs])
            for body, count in bodies(
                (orjson.dumps(entry) for _, entry in pairs), LIST_NAME[path], ENTRIES_PER_BODY
            ):
                answer = await post(client, path, body)
                said = [result.get("code") or result["status"] for result in answer["results"]]
                memory.add(zip([next(letters) for _ in range(count)], said, strict=True))
                verdicts.update(said)
                done += count
                progress(done, prepared.total)
    return verdicts
