"""What a replay sends, and what it marks."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from slipstream.datasets.upload import ReplayError
from slipstream_cli.dead_letters.letters import REPLAYED, Letter, LetterFilter
from slipstream_cli.dead_letters.resend import prepare, send
from tests.unit.cli.dead_letters.test_resend_originals import NOW, letter


class Ingestion:
    """Answers like ingestion: rejects events named `bad`, and without a letter those named
    `crawled`.
    """

    def __init__(self) -> None:
        self.bodies: list[tuple[str, dict[str, Any]]] = []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.bodies.append((self.path, body))
                (entries,) = body.values()
                codes = {"bad": "invalid_name", "crawled": "bot"}
                verdicts = [codes.get(entry.get("event")) for entry in entries]
                results = [
                    {"status": "rejected", "code": code} if code else {"status": "accepted"}
                    for code in verdicts
                ]
                self.send_response(outer.status)
                self.end_headers()
                self.wfile.write(json.dumps({"results": results}).encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def ingestion() -> Iterator[Ingestion]:
    running = Ingestion()
    yield running
    running.server.shutdown()
    running.server.server_close()


def track(event: str, place: str) -> Any:
    return letter(
        {"type": "track", "event": event, "userId": "ada", "messageId": place}, place=place
    )


def item_entries(*items: str) -> list[Any]:
    return [letter({"item_id": item, "n": n}, place=f"t:0:{n}") for n, item in enumerate(items)]


def mark_of(*ids: str) -> Letter:
    return letter(list(ids), source=REPLAYED, place="t:9:9", code=REPLAYED)


def test_letters_are_sent_once_whatever_was_said_of_them(ingestion: Ingestion) -> None:
    letters = [
        track("good", "t:0:1"),
        track("bad", "t:0:2"),
        letter({"item_id": "a"}, place="t:0:3"),
        letter([], place="t:0:4"),
    ]
    prepared = prepare(letters, NOW)
    assert (prepared.total, sum(prepared.not_replayable.values())) == (3, 1)
    told: list[tuple[int, int]] = []
    marked: list[str] = []
    verdicts = send(
        prepared,
        marked.extend,
        ingestion.url,
        "key",
        lambda step: told.append((step.done, step.total)),
    )
    assert verdicts == {"accepted": 2, "invalid_name": 1}
    assert [path for path, _ in ingestion.bodies] == ["/v1/batch", "/v1/items"]
    assert told == [(2, 3), (3, 3)]
    assert marked == ["t:0:1", "t:0:2", "t:0:3"]

    # A mark is in another partition than its letters, and may be read before them.
    for kept in ([*letters, mark_of(*marked)], [mark_of(*marked), *letters]):
        again = prepare(kept, NOW)
        assert (again.total, again.replayed) == (0, 3)
        assert prepare(kept, NOW, again=True).total == 3


def test_what_is_turned_away_without_a_new_letter_can_be_replayed_later(
    ingestion: Ingestion,
) -> None:
    marked: list[str] = []
    letters = [track("good", "t:0:1"), track("crawled", "t:0:2")]
    verdicts = send(prepare(letters, NOW), marked.extend, ingestion.url, "key")
    assert verdicts == {"accepted": 1, "bot": 1}
    assert marked == ["t:0:1"]


def test_what_was_not_answered_is_not_marked(ingestion: Ingestion) -> None:
    ingestion.status = 401
    marked: list[str] = []
    with pytest.raises(ReplayError, match="401"):
        send(prepare([track("good", "t:0:1")], NOW), marked.extend, ingestion.url, "wrong")
    assert marked == []


def test_a_replay_that_was_killed_before_its_mark_sends_the_same_again(
    ingestion: Ingestion,
) -> None:
    def kill(_: object) -> None:
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            send(prepare([track("good", "t:0:1")], NOW), kill, ingestion.url, "key")
    first, second = ingestion.bodies
    assert first == second
    assert first[1]["batch"][0]["messageId"] == "t:0:1"


def test_of_one_item_only_the_newest_entry_is_sent() -> None:
    prepared = prepare(item_entries("a", "b", "a"), NOW)
    assert [entry["n"] for _, entry in prepared.sendable["/v1/items"]] == [1, 2]
    assert prepared.superseded == 1


def test_an_older_entry_is_not_sent_after_the_newest_was() -> None:
    second = prepare([*item_entries("a", "a"), mark_of("t:0:1")], NOW)
    assert (second.total, second.replayed, second.superseded) == (0, 1, 1)


@pytest.mark.parametrize("newer_first", [False, True])
def test_an_older_entry_is_superseded_by_one_that_another_filter_chooses(
    newer_first: bool,
) -> None:
    older = letter({"item_id": "a", "n": 0}, place="t:0:0", code="invalid_value")
    newer = letter({"item_id": "a", "n": 1}, place="t:1:0", code="invalid_id", received_at=NOW - 1)
    chosen = LetterFilter(codes=frozenset({"invalid_value"}))
    letters = [newer, older] if newer_first else [older, newer]
    plan = prepare(letters, NOW, chosen=chosen)
    assert (plan.total, plan.replayed, plan.superseded) == (0, 0, 1)


def test_a_limit_counts_what_can_be_sent() -> None:
    unsendable = [letter([], place=f"t:0:{n}") for n in range(10, 13)]
    letters = [*unsendable, *item_entries("a", "a", "b", "c")]
    plan = prepare(letters, NOW, limit=2)
    assert [entry["n"] for _, entry in plan.sendable["/v1/items"]] == [1, 2]
