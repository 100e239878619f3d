"""People who are erased while every process of features and ingestion writes."""

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Final

import httpx
import pyarrow as pa
import pyarrow.compute as pc

from slipstream.stores import lake
from slipstream.stores.lake import Lake
from tests.e2e.stack import wait_for
from tests.faults.bed import Bed
from tests.faults.client import Client
from tests.faults.trouble import Trouble
from tests.integration.byte_search import keys_with
from tests.servers import RedisKind

# Time in which people send events before they are erased, and after it.
SENDING_S: Final = 3.0
PATIENCE_S: Final = 120.0
# Places of a receipt that do not wait for a retention.
DONE_AT_ONCE: Final = {"redis", "lake", "monitoring"}
# Longest that a slate takes into the lake once serving and broker go on, with some to spare.
LATE_S: Final = 6.0
# Time for which processes stand still between a list and the erasure of its visitor.
STILL_S: Final = 60.0
# The number of people, the process that is killed after their erasures were requested, and those
# that stand still meanwhile.
_CASES: Final = {
    "a person": (1, "", ""),
    "twenty people": (20, "", ""),
    "twenty people, features 2 killed": (20, "features 2", ""),
    "twenty people, features killed": (20, "features", ""),
    "ten people, serving stands still": (10, "", "serving"),
    "ten people, brokers stand still": (10, "", "broker"),
}


class Erasures(Trouble):
    """Erasures of people who go on sending events, while all replicas append to the lake.

    Each is requested twice: amid the person's events, of which later ones begin a new history, and
    after the last one, so that nothing may be left. A list is requested just before each, and
    serving hands over its slate later.
    """

    strikes = tuple(_CASES)
    redis = (RedisKind.SINGLE, RedisKind.CLUSTER)

    def strike(self, name: str, bed: Bed, client: Client) -> None:
        number, victim, still = _CASES[name]
        people = [f"erased-{name.replace(' ', '-')}-{each}" for each in range(number)]
        with ExitStack() as opened:
            ingestion = [
                opened.enter_context(
                    httpx.Client(base_url=url, auth=(bed.stack.write_key, ""), timeout=30)
                )
                for url in bed.urls("ingestion")
            ]
            senders = [_Sender(one, people, place) for place, one in enumerate(ingestion)]
            for sender in senders:
                sender.start()
                opened.callback(sender.end)
            time.sleep(SENDING_S)
            wait_for(lambda: _rows(bed, people) > 0, "rows of those to be erased", PATIENCE_S)
            _ask_for_lists(bed, people)
            _erase(ingestion[0], people)
            if victim:
                os.kill(bed.processes[victim], signal.SIGKILL)
            time.sleep(SENDING_S)
            for sender in senders:
                sender.end()
                assert not sender.failure, sender.failure
            _ask_for_lists(bed, people)
            with _standing_still(bed, still):
                receipts = _erase(ingestion[-1], people)
            for receipt in receipts:
                wait_for(
                    partial(_is_done, ingestion[0], receipt),
                    f"erasure {receipt} to be done in {DONE_AT_ONCE}",
                    PATIENCE_S,
                )
            # Events go on, so that nothing tells when the last slates were read.
            time.sleep(LATE_S)
            for table in (lake.INTERACTIONS, lake.RECOMMENDATIONS):
                assert _rows(bed, people, table) == 0, f"erased people are in the lake's {table}"
            keys = [*keys_with(people, bed.stores.redis, bed.stores.namespace)]
            assert not keys, f"keys of erased people are in Redis: {keys[:3]}"


class _Sender(threading.Thread):
    """A client of one process of ingestion, that sends events of each person in turn."""

    def __init__(self, ingestion: httpx.Client, people: Sequence[str], place: int) -> None:
        super().__init__(daemon=True)
        self._ingestion, self._people, self._place = ingestion, people, place
        self._halt = threading.Event()
        self.failure = ""

    def run(self) -> None:
        sent = 0
        while not self._halt.wait(0.01):
            person = self._people[sent % len(self._people)]
            event = {
                "userId": person,
                "event": "Article Read",
                "messageId": f"{person}-{self._place}-{sent}",
            }
            answer = self._ingestion.post("/v1/track", json=event)
            if answer.status_code != httpx.codes.OK:
                self.failure = answer.text
                return
            sent += 1

    def end(self) -> None:
        self._halt.set()
        self.join()


def _erase(ingestion: httpx.Client, people: Sequence[str]) -> list[str]:
    """Ask for the erasure of each; the receipts' ids."""

    def accepted(person: str) -> str:
        # 503 while no broker says where its topics end.
        answer = ingestion.delete(f"/v1/users/{person}").raise_for_status()
        return str(answer.json()["erasure_id"])

    return [
        wait_for(partial(accepted, person), f"the erasure of {person}", PATIENCE_S)
        for person in people
    ]


def _ask_for_lists(bed: Bed, people: Sequence[str]) -> None:
    """Ask every process of serving for a list of each."""
    for url in bed.urls("serving"):
        with httpx.Client(base_url=url, timeout=30) as serving:
            for person in people:
                serving.get(f"/v1/recommendations/{person}").raise_for_status()


@contextmanager
def _standing_still(bed: Bed, service: str) -> Iterator[None]:
    """Processes of a service, or the brokers, stand still for `STILL_S`, and the block begins."""
    pids = [pid for name, pid in bed.processes.items() if service and name.startswith(service)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        go_on = threading.Timer(STILL_S if pids else 0, _continue, (pids,))
        go_on.start()
        yield
    finally:
        go_on.join()


def _is_done(ingestion: httpx.Client, erasure_id: str) -> bool:
    answer = ingestion.get(f"/v1/erasures/{erasure_id}")
    if answer.status_code not in (httpx.codes.OK, httpx.codes.ACCEPTED):
        return False  # a service is away for a moment
    done = {place["place"] for place in answer.json()["places"] if place["done"]}
    return done >= DONE_AT_ONCE


def _continue(pids: Sequence[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def _rows(bed: Bed, people: Sequence[str], table: str = lake.INTERACTIONS) -> int:
    history = Lake(bed.stores.lake, bed.stores.namespace)
    users = history.read(table, columns=["user_id"])["user_id"]
    return int(pc.sum(pc.is_in(users, value_set=pa.array(people, users.type))).as_py() or 0)
