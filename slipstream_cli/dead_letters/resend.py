"""Replays of dead letters through ingestion, each under the id and the time that its letter has."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from services.ingestion.outcomes import NOT_KEPT
from slipstream.contracts.item_patches import PATCHED_ENTITY
from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.contracts.times import DAY_MS
from slipstream.datasets.upload import bodies, post
from slipstream_cli.dead_letters.letters import ALL_LETTERS, Letter, LetterFilter

BATCH, IMPORT, ITEMS, USERS = "/v1/batch", "/v1/import", "/v1/items", "/v1/users"
# Name of the list in each endpoint's body.
LIST_NAME = {BATCH: "batch", IMPORT: "batch", ITEMS: "items", USERS: "users"}
# Older events are sent as history. Ingestion takes 24 h as live; an hour is for the sending.
LIVE_MS = DAY_MS - 3_600_000
FEATURES = "features"
ENTRIES_PER_BODY = 500


@dataclass(frozen=True, slots=True)
class ReplayEntry:
    """An entry of a request's body.

    Attributes:
        path: The endpoint.
        entry: The entry.
        entity: Item or user, as `item:ID`, of which only the newest entry may be sent; empty for
            events.
    """

    path: str
    entry: dict[str, Any]
    entity: str = ""


class NotReplayableError(Exception):
    """A letter's original is not sent again; the text says why."""


def replay_entry(letter: Letter, now_ms: int) -> ReplayEntry:
    """The entry that is sent for a letter.

    Raises:
        NotReplayableError: It is never sent.
    """
    record, original = letter.record, letter.record.original
    if record.by_browser:
        raise NotReplayableError(
            "it came with a browser's key, and would have a server's rights now: the page has to"
            " send it again"
        )
    if record.source == FEATURES:
        raise NotReplayableError(
            "ingestion had accepted it, and features left it out: its client has to send it again"
        )
    if not isinstance(original, dict):
        raise NotReplayableError(
            "the original is not a JSON object, or was too large or nested too deeply to be kept"
        )
    # Ingestion gives every event an id, and a patch the name of its kind.
    if str(original.get("type")) in PATCHED_ENTITY:
        raise NotReplayableError(
            "a patch is not repeated from a letter: there may be newer values, so patch it again"
        )
    if "messageId" in original:
        happened = original.get("timestamp")
        is_old = type(happened) is int and happened < now_ms - LIVE_MS
        return ReplayEntry(IMPORT if is_old else BATCH, original)
    for entity, path in (("item", ITEMS), ("user", USERS)):
        if (name := original.get(f"{entity}_id")) is not None:
            if original.get("deleted") is True:
                raise NotReplayableError(
                    "a deletion is not repeated from a letter: delete it again"
                )
            # It counts from the moment it is sent, so an older one must not be sent last.
            return ReplayEntry(path, original, f"{entity}:{name}")
    raise NotReplayableError("the entry names no item and no user")


@dataclass(slots=True)
class ReplayPlan:
    """A plan of a replay.

    Attributes:
        sendable: Letters with the entries to send, by endpoint.
        replayed: Number of letters that were replayed before.
        superseded: Number of letters with a newer one of the same item or user.
        not_replayable: Number of letters that are never sent, by reason.
    """

    sendable: dict[str, list[tuple[Letter, dict[str, Any]]]] = field(default_factory=dict)
    replayed: int = 0
    superseded: int = 0
    not_replayable: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        return sum(map(len, self.sendable.values()))


def prepare(
    letters: Iterable[Letter],
    at_ms: int,
    *,
    chosen: LetterFilter = ALL_LETTERS,
    limit: int | None = None,
    again: bool = False,
) -> ReplayPlan:
    """Plan the replay of letters.

    Args:
        letters: All that the topic has, with the marks of those replayed before. An entry that is
            not chosen keeps older ones of its item from being sent.
        at_ms: The time of the replay, in ms.
        limit: Most letters sent, the oldest first; None: all.
        again: Whether letters are replayed that were before.
    """
    plan = ReplayPlan()
    done: set[str] = set()
    newest: dict[str, tuple[int, str]] = {}
    entries: list[tuple[Letter, ReplayEntry]] = []
    for letter in letters:
        done.update(letter.marked)
        if letter.marked:
            continue
        try:
            entry = replay_entry(letter, at_ms)
        except NotReplayableError as error:
            if letter in chosen:
                plan.not_replayable[str(error)] += 1
            continue
        received_at = letter.record.received_at
        if entry.entity and received_at >= newest.get(entry.entity, (0, ""))[0]:
            newest[entry.entity] = received_at, letter.id
        if letter in chosen:
            entries.append((letter, entry))
    entries.sort(key=lambda pair: pair[0].record.received_at)
    for letter, entry in entries:
        if letter.id in done and not again:
            plan.replayed += 1
        elif entry.entity and newest[entry.entity][1] != letter.id:
            plan.superseded += 1
        elif limit is None or plan.total < limit:
            plan.sendable.setdefault(entry.path, []).append((letter, entry.entry))
    return plan


def send(
    plan: ReplayPlan,
    mark: Callable[[Sequence[str]], None],
    url: str,
    write_key: str,
    progress: Progress = lambda _: None,
) -> Counter[str]:
    """Send a plan's entries in batches, and mark the letters of each once it is answered.

    A batch that is answered and not marked is sent again by the next replay. Within a day ingestion
    knows its events by their ids, and an entry of an item or user may count twice.

    Args:
        mark: Notes that the letters with these ids were replayed.
        progress: Called with the number sent and the total.

    Returns:
        The number of entries by verdict: `accepted`, `duplicate`, or the code of a rejection.

    Raises:
        ReplayError: Ingestion can't be reached or refuses the key. Entries answered before are
            marked.
    """
    return asyncio.run(_send(plan, mark, url, write_key, progress))


async def _send(
    plan: ReplayPlan,
    mark: Callable[[Sequence[str]], None],
    url: str,
    write_key: str,
    progress: Progress,
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
                answered = zip([next(letters) for _ in range(count)], codes, strict=True)
                # One that was rejected again has a new letter, unless its code has none.
                mark([letter.id for letter, code in answered if code not in NOT_KEPT])
                verdicts.update(codes)
                sent += count
                progress(ProgressStep("letters", sent, plan.total))
    return verdicts
