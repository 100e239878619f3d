"""Replays of dead letters as the requests that a client would send, and the record of those
replayed."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson

from services.ingestion.outcomes import NOT_KEPT
from slipstream.contracts.events import DeadLetter
from slipstream.contracts.item_patches import PATCHED_ENTITY
from slipstream.contracts.page_visitors import apart_id
from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.contracts.times import DAY_MS, now_ms
from slipstream.contracts.vocabulary import MAX_ID_BYTES, MERGED_INTO
from slipstream.datasets.upload import bodies, post
from slipstream.ingress.fields import RejectionError, as_millis
from slipstream_cli.dead_letters.letters import ALL_LETTERS, Letter, LetterFilter

BATCH, IMPORT, ITEMS, USERS = "/v1/batch", "/v1/import", "/v1/items", "/v1/users"
# Name of the list in each endpoint's body.
LIST_NAME = {BATCH: "batch", IMPORT: "batch", ITEMS: "items", USERS: "users"}
# Older events are sent as history. Ingestion takes 24 h as live; an hour is for the sending.
LIVE_MS = DAY_MS - 3_600_000
# Calls by a field that only they have, for messages without a `type`.
CALL_BY_FIELD = {"event": "track", "previousId": "alias", "groupId": "group", "traits": "identify"}
# Calls of which features judges by the key who may make them (docs/adr/0025).
JUDGED_CALLS = ("alias", "identify")
FEATURES = "features"
# Fields of an interaction that are properties in a message.
PROPERTY_FIELDS = ("item_id", "value", "recommendation_id", "position", "session_id")


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
    """A letter's original can't be sent; the text says why."""


def replay_entry(letter: Letter, now_ms: int) -> ReplayEntry:
    """Convert a letter into the entry that is sent for it.

    Raises:
        NotReplayableError: Its original can't be sent.
    """
    record = letter.record
    original = record.original
    if record.source == FEATURES:
        return _from_record(_parsed(original), letter, now_ms)
    if not isinstance(original, dict):
        raise NotReplayableError(
            "the original is not a JSON object, or was too large or nested too deeply to be kept"
        )
    # Ingestion writes `type` into messages; entries of the catalogue have none.
    if str(original.get("type")) in PATCHED_ENTITY:
        raise _of_patch()
    if not original.get("type"):
        for entity in ("item", "user"):
            if f"{entity}_id" in original:
                if record.by_browser:
                    raise _of_browser("an entry of the catalogue")
                return _catalog_entry(entity, original)
    return _message(dict(original), letter, now_ms)


def _catalog_entry(entity: str, original: dict[str, Any]) -> ReplayEntry:
    if original.get("deleted") is True:
        raise NotReplayableError("a deletion is not repeated from a letter: delete it again")
    # An entry counts from the moment it is sent, so an older one must not be sent last.
    return ReplayEntry(
        ITEMS if entity == "item" else USERS, original, f"{entity}:{original.get(f'{entity}_id')}"
    )


def _message(message: dict[str, Any], letter: Letter, now_ms: int) -> ReplayEntry:
    if not message.get("type"):
        message["type"] = next(
            (call for field, call in CALL_BY_FIELD.items() if field in message), None
        )
        if message["type"] is None:
            raise NotReplayableError("no field of the original shows which call it was")
    if letter.record.by_browser and message["type"] in JUDGED_CALLS:
        raise _of_browser(str(message["type"]))
    if letter.record.by_browser and (user := message.pop("userId", None)) is not None:
        # The key that the replay uses would prove what the page said.
        message["anonymousId"] = apart_id(str(message.get("anonymousId") or user))
    if not message.get("messageId"):
        message["messageId"] = f"letter-{_digest(letter.id)}"
    message.pop("writeKey", None)
    happened = _settle_time(message, letter.record)
    return ReplayEntry(
        IMPORT if happened is not None and happened < now_ms - LIVE_MS else BATCH, message
    )


def _of_browser(call: str) -> NotReplayableError:
    """The refusal to send a page's call with the rights of the key that the replay uses."""
    return NotReplayableError(
        f"{call} came with a browser's key, and would have a server's rights now: the page has to"
        " send it again"
    )


def _of_patch() -> NotReplayableError:
    return NotReplayableError(
        "a patch is not repeated from a letter: there may be newer values, so patch it again"
    )


def _settle_time(message: dict[str, Any], record: DeadLetter) -> int | None:
    """Set the message's `timestamp` by our clock, and return it.

    Without it, a missing time, or one that `sentAt` corrects, would become that of the replay.

    Returns:
        The time in ms; None, with the message unchanged, where its times can't be parsed.
    """
    field = "timestamp" if message.get("timestamp") is not None else "originalTimestamp"
    try:
        given = message.get(field)
        happened = record.received_at if given is None else as_millis(given, field)
        if given is not None and (sent := message.get("sentAt")) is not None:
            happened += record.received_at - as_millis(sent, "sentAt")
    except RejectionError:
        return None
    message.pop("sentAt", None)
    message["timestamp"] = happened
    return happened


def _parsed(original: Any) -> dict[str, Any]:
    """Parse a record that features rejected. Its letter has the text, cut off if it was long."""
    try:
        record = orjson.loads(original) if isinstance(original, str) else original
    except orjson.JSONDecodeError as error:
        raise NotReplayableError(
            "the record is not JSON, or only its beginning was kept"
        ) from error
    if not isinstance(record, dict):
        raise NotReplayableError("the record is not an object")
    return record


def _from_record(record: dict[str, Any], letter: Letter, now_ms: int) -> ReplayEntry:
    if "entity" in record and "entity_id" in record:
        return _from_catalog_record(record, letter, now_ms)
    if not record.get("event_type") or not record.get("user_id"):
        raise NotReplayableError(
            "the record has no event_type and user_id: it is not a client's event"
        )
    visitor, anonymous = record["user_id"], record.get("anonymous_id")
    known = {name: record[name] for name in PROPERTY_FIELDS if record.get(name) is not None}
    properties = record.get("properties")
    message = {
        "type": "track",
        "event": record["event_type"],
        "messageId": _replayed_id(str(record.get("event_id") or letter.id)),
        "timestamp": record.get("timestamp"),
        "properties": {**(properties if isinstance(properties, dict) else {}), **known},
    }
    if anonymous is not None:
        message["anonymousId"] = anonymous
    if visitor != anonymous:
        message["userId"] = visitor
    return _message(message, letter, now_ms)


def _from_catalog_record(record: dict[str, Any], letter: Letter, now_ms: int) -> ReplayEntry:
    entity, entity_id, attributes = record["entity"], record["entity_id"], record.get("attributes")
    if record.get("by_browser") or letter.record.by_browser:
        raise _of_browser(f"a record of {entity}")
    if entity == "identity" and isinstance(attributes, dict):
        message = {"type": "alias", "previousId": entity_id, "userId": attributes.get(MERGED_INTO)}
        return _message({**message, "timestamp": record.get("timestamp")}, letter, now_ms)
    if str(entity) in PATCHED_ENTITY:
        raise _of_patch()
    if entity not in ("item", "user"):
        raise NotReplayableError(f"there is no entity {entity!r}")
    entry = {f"{entity}_id": entity_id, "attributes": attributes or {}}
    if record.get("available") is not None:
        entry["available"] = record["available"]
    return _catalog_entry(entity, entry | ({"deleted": True} if record.get("deleted") else {}))


def _replayed_id(event_id: str) -> str:
    """Derive a message id that differs from the event's, and is always the same.

    Ingestion accepted the event's id, so the same would be a duplicate.
    """
    name = f"{event_id}:replayed"
    return name if len(name.encode()) <= MAX_ID_BYTES - 8 else f"replayed-{_digest(event_id)}"


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


# In the data folder. Ingestion remembers message ids for a day, but letters stay for 30. A consumer
# group's offset would not do, since the replayed letters need not be the oldest.
REPLAYED_FILE = "replayed-dead-letters.jsonl"
ENTRIES_PER_BODY = 500
# Verdict of a letter after its item or user got a newer entry.
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
