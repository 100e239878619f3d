"""Replays of dead letters, and the record of those replayed."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson

from services.ingestion.verdicts import NOT_KEPT
from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.contracts.times import now_ms
from slipstream.datasets.upload import bodies, post
from slipstream_cli.dead_letters.letters import ALL_LETTERS, Letter, LetterFilter
from slipstream_cli.dead_letters.originals import (
    LIST_NAME,
    NotReplayableError,
    ReplayEntry,
    replay_entry,
)

# In the data folder. Ingestion remembers message ids for a day, but letters stay for 30. A consumer
# group's offset would not do, since the replayed letters need not be the oldest.
REPLAYED_FILE = "replayed-dead-letters.jsonl"
ENTRIES_PER_BODY = 500
# Verdict that is noted of a letter whose item or user has a newer entry.
SUPERSEDED = "superseded"


class ReplayedLetters:
    """The record of replayed letters: a JSON line each, written after their verdicts."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / REPLAYED_FILE
        self._ids = {entry["letter"] for entry in self._entries()}

    def __contains__(self, letter: object) -> bool:
        return isinstance(letter, Letter) and letter.id in self._ids

    def add(self, verdicts: Iterable[tuple[Letter, str]]) -> None:
        """Record letters with their verdicts.

        A letter that was rejected again counts as replayed, since it has a new letter. Rejections
        without a letter, such as those of a rate limit, are left out.
        """
        now = now_ms()
        done = [(letter.id, code) for letter, code in verdicts if code not in NOT_KEPT]
        lines = [
            orjson.dumps({"letter": letter_id, "verdict": code, "at": now}) + b"\n"
            for letter_id, code in done
        ]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            # A crash may have cut the last line short, so a new one begins.
            file.write(b"\n" + b"".join(lines))
        self._ids |= {letter_id for letter_id, _ in done}

    def _entries(self) -> Iterator[dict[str, Any]]:
        if not self._path.exists():
            return
        for line in self._path.read_bytes().splitlines():
            try:
                entry = orjson.loads(line)
            except orjson.JSONDecodeError:  # cut short by a crash
                continue
            if isinstance(entry, dict) and "letter" in entry:
                yield entry


@dataclass(slots=True)
class ReplayPlan:
    """A plan of a replay.

    Attributes:
        sendable: Letters with the entries to send, by endpoint.
        replayed: Number of letters that were replayed before.
        superseded: Letters with a newer entry of the same item or user.
        not_replayable: Number of letters that can't be sent, by reason.
    """

    sendable: dict[str, list[tuple[Letter, dict[str, Any]]]] = field(default_factory=dict)
    replayed: int = 0
    superseded: list[Letter] = field(default_factory=list)
    not_replayable: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        return sum(map(len, self.sendable.values()))


def prepare(
    letters: list[Letter],
    done: ReplayedLetters,
    at_ms: int,
    *,
    chosen: LetterFilter = ALL_LETTERS,
    limit: int | None = None,
    again: bool = False,
) -> ReplayPlan:
    """Plan the replay of letters.

    Args:
        letters: The letters, in order of receipt. Those replayed before belong to them, since an
            older entry of the same item must not be sent after them.
        done: Letters that were replayed before.
        at_ms: The time of the replay, in ms.
        chosen: The filter of what is sent.
        limit: Most letters sent, the oldest first; None: all.
        again: Whether letters in `done` are replayed again.
    """
    plan = ReplayPlan()
    newest: dict[str, str] = {}
    entries: list[tuple[Letter, ReplayEntry]] = []
    for letter in letters:
        wanted = letter in chosen
        if wanted and letter in done and not again:
            plan.replayed += 1
            wanted = False
        try:
            entry = replay_entry(letter, at_ms)
        except NotReplayableError as error:
            if wanted:
                plan.not_replayable[str(error)] += 1
            continue
        if entry.entity:
            newest[entry.entity] = letter.id
        if wanted:
            entries.append((letter, entry))
    for letter, entry in entries:
        if entry.entity and newest[entry.entity] != letter.id:
            plan.superseded.append(letter)
        elif limit is None or plan.total < limit:
            plan.sendable.setdefault(entry.path, []).append((letter, entry.entry))
    return plan


def send(
    plan: ReplayPlan,
    done: ReplayedLetters,
    url: str,
    write_key: str,
    progress: Progress = lambda _: None,
) -> Counter[str]:
    """Send a plan's entries in batches, and record the letters as replayed.

    Letters with a newer entry are recorded once all are sent.

    Args:
        plan: The plan.
        done: The record of replayed letters.
        url: Ingestion.
        write_key: The key to send with.
        progress: Called with the number sent and the total.

    Returns:
        The number of entries by verdict: `accepted`, `duplicate`, or the code of a rejection.

    Raises:
        ReplayError: Ingestion can't be reached or refuses the key. Entries answered before are
            recorded.
    """
    return asyncio.run(_send(plan, done, url, write_key, progress))


async def _send(
    plan: ReplayPlan, done: ReplayedLetters, url: str, write_key: str, progress: Progress
) -> Counter[str]:
    verdicts: Counter[str] = Counter()
    sent = 0
    async with httpx.AsyncClient(base_url=url, auth=(write_key, ""), timeout=60) as client:
        for path, pairs in plan.sendable.items():
            letters = iter([letter for letter, _ in pairs])
            for body, count in bodies(
                (orjson.dumps(entry) for _, entry in pairs), LIST_NAME[path], ENTRIES_PER_BODY
            ):
                answer = await post(client, path, body)
                codes = [result.get("code") or result["status"] for result in answer["results"]]
                done.add(zip([next(letters) for _ in range(count)], codes, strict=True))
                verdicts.update(codes)
                sent += count
                progress(ProgressStep("letters", sent, plan.total))
    if plan.superseded:
        done.add((letter, SUPERSEDED) for letter in plan.superseded)
    return verdicts
