"""`make erasure-check`: people are erased under load, and every byte of the stack is searched.

Each is asked a list for and erased within milliseconds. In some cases serving or the broker stands
still between the two, so that the slate reaches the log long after the erasure; in each, a client
sends an event from before it once more when it is done. The embedded broker keeps its records in
memory, so topics, which forget by retention, are on no disk here.
"""

import os
import random
import secrets
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click
import httpx
from pydantic import SecretStr

from slipstream.chassis.settings import RedisSettings
from tests.e2e import shop
from tests.e2e.stack import Stack, caught_up, running, wait_for
from tests.integration.byte_search import files_with, keys_with
from tests.servers import Outside

# Times that are hours and days in production.
SETTINGS: Final = {
    "SLIPSTREAM_FEATURES__ERASE_EVERY_S": "1",
    "SLIPSTREAM_FEATURES__LAKE_COMPACT_EVERY_S": "2",
    "SLIPSTREAM_FEATURES__LAKE_VACUUM_EVERY_HOURS": "0.001",
    "SLIPSTREAM_FEATURES__LAKE_ERASURE_HOURS": "0.0005",
    "SLIPSTREAM_MONITORING__ERASE_EVERY_S": "1",
    "SLIPSTREAM_MONITORING__ERASURE_CACHES_H": "0",
    "SLIPSTREAM_TRAINING__NEW_EVENTS": "0",
    "SLIPSTREAM_TRAINING__CHECK_SECONDS": "2",
    "SLIPSTREAM_TRAINING__COOLDOWN_MINUTES": "0",
    "SLIPSTREAM_TRAINING__ERASURE_HOURS": "0.02",
}
# Places of a receipt that wait for the retention of topics.
BY_RETENTION: Final = {"topics", "dead letters", "late records", "logs"}
PATIENCE_S: Final = 240.0
STALLS: Final = (("serving", 0.01), ("serving", 0.3), ("serving", None), ("broker", None))


@dataclass
class Person:
    """A person who is erased: the ids that are searched for, and how the erasure went.

    `stall` names the process that stands still between list and erasure, and for how long (s).
    """

    user_id: str
    device: str
    stall: tuple[str, float] | None = None
    event: dict[str, Any] = field(default_factory=dict)
    recommendation_ids: list[str] = field(default_factory=list)
    erasure_id: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)


class Load(threading.Thread):
    """Visitors of the shop who send events at a rate and ask for lists, until it is ended."""

    def __init__(self, stack: Stack, rate: float, seed: int) -> None:
        super().__init__(daemon=True)
        self._ingestion = httpx.Client(base_url=stack.urls["ingestion"], timeout=90)
        self._serving = httpx.Client(base_url=stack.urls["serving"], timeout=90)
        self._auth, self._rate, self._chance = (stack.write_key, ""), rate, random.Random(seed)
        self._halt = threading.Event()
        self.sent = 0

    def run(self) -> None:
        began = time.monotonic()
        while not self._halt.wait(0.1):
            due = int((time.monotonic() - began) * self._rate) - self.sent
            events = [
                shop.track(
                    f"visitor-{self._chance.randrange(300)}",
                    "view",
                    str(self._chance.choice(shop.ITEMS)["item_id"]),
                    time.time(),
                    nonce=secrets.token_hex(4),
                )
                for _ in range(max(0, min(due, 500)))
            ]
            try:
                answer = self._ingestion.post("/v1/batch", json={"batch": events}, auth=self._auth)
                self._serving.get(f"/v1/recommendations/visitor-{self._chance.randrange(300)}")
            except httpx.TransportError:
                continue
            if answer.status_code == httpx.codes.OK:
                self.sent += len(events)

    def end(self) -> None:
        self._halt.set()
        self.join()


@contextmanager
def standing_still(stack: Stack, stall: tuple[str, float] | None) -> Iterator[None]:
    """Stop a process for the block, and for its time in any case; it goes on at the end."""
    if stall is None:
        yield
        return
    name, seconds = stall
    pid = stack.children[name]
    os.kill(pid, signal.SIGSTOP)
    goes_on = threading.Timer(seconds, os.kill, (pid, signal.SIGCONT))
    goes_on.start()
    try:
        yield
    finally:
        goes_on.join()


def erase(stack: Stack, person: Person) -> None:
    """Let a person browse, ask for lists, and be erased at once."""
    auth = (stack.write_key, "")
    ingestion, serving = stack.clients["ingestion"], stack.clients["serving"]
    now = time.time()
    person.event = shop.track(None, "view", "tea-1", now, anonymous_id=person.device)
    calls = [
        person.event,
        *(shop.track(person.user_id, "view", f"tea-{number}", now) for number in range(8)),
        {"type": "identify", "userId": person.user_id, "anonymousId": person.device,
         "traits": {"mail": person.user_id}},
    ]  # fmt: skip
    ingestion.post("/v1/batch", json={"batch": calls}, auth=auth).raise_for_status()

    def listed() -> bool:
        viewed = serving.get(f"/v1/recently-viewed/{person.user_id}").raise_for_status().json()
        return len(viewed["items"]) >= 8

    wait_for(listed, f"events of {person.user_id}")
    for path in (f"/v1/recommendations/{person.user_id}", f"/v1/recommendations/{person.device}"):
        answer = serving.get(path).raise_for_status().json()
        person.recommendation_ids.append(answer["recommendation_id"])
    began = time.monotonic()
    with standing_still(stack, person.stall):

        def accepted() -> str | None:
            # While the broker stands still nothing is accepted (503).
            answer = ingestion.delete(f"/v1/users/{person.user_id}", auth=auth)
            return str(answer.raise_for_status().json()["erasure_id"])

        person.erasure_id = wait_for(accepted, "the erasure to be accepted", PATIENCE_S)
        person.seconds["asked"] = time.monotonic() - began


def wait_for_places(stack: Stack, person: Person, places: set[str] | None) -> None:
    """Wait until a receipt's places are done; all but those by retention where None are named."""
    began = time.monotonic()

    def done() -> bool:
        receipt = stack.clients["ingestion"].get(
            f"/v1/erasures/{person.erasure_id}", auth=(stack.write_key, "")
        )
        person.left = [
            f"{place['place']}: {place['detail']}"
            for place in receipt.raise_for_status().json()["places"]
            if not place["done"]
            and place["place"] not in BY_RETENTION
            and (places is None or place["place"] in places)
        ]
        return not person.left

    try:
        wait_for(done, f"the receipt of {person.user_id}", PATIENCE_S)
    except AssertionError:
        raise click.ClickException(f"{person.user_id} is left in {person.left}") from None
    person.seconds["lake" if places else "all"] = time.monotonic() - began


def found(stack: Stack, people: Sequence[Person]) -> list[str]:
    """Where anything of these people is left: files, keys of Redis, and answers over REST."""
    ids = [each for person in people for each in (person.user_id, person.device)]
    redis = RedisSettings(url=SecretStr(stack.urls["redis"]))
    left = [
        *files_with(ids, stack.directory),
        *keys_with(ids, redis, stack.urls["namespace"]),
    ]
    for person in people:
        for each in person.recommendation_ids:
            for service, path in (("features", "slates"), ("serving", "answers")):
                status = stack.clients[service].get(f"/v1/{path}/{each}").status_code
                if status != httpx.codes.NOT_FOUND:
                    left.append(f"GET /v1/{path}/{each} of {person.user_id}: {status}")
    return left


def control(stack: Stack) -> list[str]:
    """Where a visitor who was not erased is found: the search finds what is there."""
    redis = RedisSettings(url=SecretStr(stack.urls["redis"]))
    name = "visitor-1"
    files = [Path(path).suffix for path in files_with([name], stack.directory)]
    kinds = {".parquet": "lake", ".db": "SQL", ".db-wal": "SQL", ".aof": "Redis' files"}
    in_files = {kinds[suffix] for suffix in files if suffix in kinds}
    return sorted(in_files | {"Redis" for _ in keys_with([name], redis, stack.urls["namespace"])})


def people_of(number: int, longest_s: float) -> list[Person]:
    """The people of a check: those for whom something stands still come first."""
    people = []
    for place in range(number):
        stall = STALLS[place] if place < len(STALLS) else None
        name = secrets.token_hex(4)
        people.append(
            Person(
                f"erased-{name}",
                f"device-{name}",
                stall and (stall[0], longest_s if stall[1] is None else stall[1]),
            )
        )
    return people


def prepare(stack: Stack) -> None:
    """Fill the shop, and train a model, which is older than all erasures."""
    stack.post("ingestion", "/v1/items", {"items": shop.ITEMS})
    events = shop.history()
    for begin in range(0, len(events), 500):
        stack.post("ingestion", "/v1/import", {"batch": events[begin : begin + 500]})
    wait_for(lambda: caught_up(stack), "the history to be taken", 120)
    run_id = stack.post("training", "/v1/runs", {})["run_id"]

    def ended() -> bool:
        return stack.get("training", f"/v1/runs/{run_id}")["state"] in ("succeeded", "failed")

    wait_for(ended, "a model", 240)
    wait_for(lambda: stack.get("serving", "/v1/model")["version"] is not None, "the champion")


@contextmanager
def kept_on_failure() -> Iterator[Path]:
    """A new folder, removed at the block's end unless the block fails; then its name is printed."""
    folder = Path(tempfile.mkdtemp(prefix="slipstream-erasure-"))
    try:
        yield folder
    except BaseException:
        click.echo(f"the stack's logs and data are kept in {folder}", err=True)
        raise
    shutil.rmtree(folder)


def erase_under_load(folder: Path, people: Sequence[Person], rate: float, seed: int) -> list[str]:
    """Erase people from a stack in the folder at random moments; where anything of them is left."""
    chance, began = random.Random(seed), time.monotonic()
    with running(folder, Outside({}, {}), **SETTINGS) as stack:
        prepare(stack)
        click.echo(f"seed {seed}; a model after {time.monotonic() - began:.0f} s")
        load = Load(stack, rate, seed)
        load.start()
        for person in people:
            time.sleep(chance.uniform(0, 3))
            erase(stack, person)
            click.echo(f"{person.user_id} erased; stood still: {person.stall}")
        for person in people:
            wait_for_places(stack, person, {"redis", "lake", "monitoring"})
            stack.post("ingestion", "/v1/batch", {"batch": [person.event]})
        load.end()
        for person in people:
            wait_for_places(stack, person, None)
        wait_for(lambda: caught_up(stack), "features to catch up", 120)
        # The last late events are on no disk but for the log, and are in no portion of the lake.
        time.sleep(3)
        left = found(stack, people)
        click.echo(f"the search finds a visitor who stays in: {', '.join(control(stack))}")
    slowest = {
        what: max(person.seconds[what] for person in people) for what in ("asked", "lake", "all")
    }
    click.echo(
        f"{len(people)} people, {load.sent} events of others; slowest, s: "
        + ", ".join(f"{what} {seconds:.1f}" for what, seconds in slowest.items())
    )
    for place in left:
        click.echo(f"LEFT: {place}")
    return left


@click.command()
@click.option("--erasures", default=10, show_default=True, help="The number of people erased.")
@click.option("--rate", default=100.0, show_default=True, help="Events a second of other visitors.")
@click.option(
    "--stall", default=5.0, show_default=True, help="Longest that serving or the broker stands "
    "still between a list and its erasure, in seconds.",
)  # fmt: skip
@click.option("--seed", default=None, type=int, help="Seed of the moments; random by default.")
def main(erasures: int, rate: float, stall: float, seed: int | None) -> None:
    """Erase people from a stack of its own under load, and search every byte for them.

    \b
    Example:  make erasure-check ERASURE_ARGS="--stall 60"
    """
    seed = secrets.randbits(16) if seed is None else seed
    people, began = people_of(erasures, stall), time.monotonic()
    with kept_on_failure() as folder:
        left = erase_under_load(folder, people, rate, seed)
        click.echo(f"left of the erased: {len(left)} places; {time.monotonic() - began:.0f} s")
        if left:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
