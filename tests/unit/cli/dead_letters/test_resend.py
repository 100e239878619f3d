"""What a replay sends, and what it remembers."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from slipstream.datasets.upload import ReplayError
from slipstream_cli.dead_letters.letters import LetterFilter
from slipstream_cli.dead_letters.resend import REPLAYED_FILE, ReplayedLetters, prepare, send
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


def test_letters_are_sent_once_whatever_was_said_of_them(
    ingestion: Ingestion, tmp_path: Path
) -> None:
    letters = [
        track("good", "t:0:1"),
        track("bad", "t:0:2"),
        letter({"item_id": "a"}, place="t:0:3"),
        letter([], place="t:0:4"),
    ]
    prepared = prepare(letters, ReplayedLetters(tmp_path / "new"), NOW)
    assert (prepared.total, sum(prepared.not_replayable.values())) == (3, 1)
    told: list[tuple[int, int]] = []
    verdicts = send(
        prepared,
        ReplayedLetters(tmp_path / "new"),
        ingestion.url,
        "key",
        lambda step: told.append((step.done, step.total)),
    )
    assert verdicts == {"accepted": 2, "invalid_name": 1}
    assert [path for path, _ in ingestion.bodies] == ["/v1/batch", "/v1/items"]
    assert told == [(2, 3), (3, 3)]

    again = prepare(letters, ReplayedLetters(tmp_path / "new"), NOW)
    assert (again.total, again.replayed) == (0, 3)
    assert prepare(letters, ReplayedLetters(tmp_path / "new"), NOW, again=True).total == 3
    ReplayedLetters(tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


def test_what_is_turned_away_without_a_new_letter_can_be_replayed_later(
    ingestion: Ingestion, tmp_path: Path
) -> None:
    letters = [track("good", "t:0:1"), track("crawled", "t:0:2")]
    verdicts = send(
        prepare(letters, ReplayedLetters(tmp_path), NOW),
        ReplayedLetters(tmp_path),
        ingestion.url,
        "key",
    )
    assert verdicts == {"accepted": 1, "bot": 1}
    (left,) = prepare(letters, ReplayedLetters(tmp_path), NOW).sendable["/v1/batch"]
    assert left[0] == letters[1]


def test_what_was_not_answered_is_not_remembered(ingestion: Ingestion, tmp_path: Path) -> None:
    ingestion.status = 401
    memory = ReplayedLetters(tmp_path)
    with pytest.raises(ReplayError, match="401"):
        send(prepare([track("good", "t:0:1")], memory, NOW), memory, ingestion.url, "wrong")
    assert prepare([track("good", "t:0:1")], ReplayedLetters(tmp_path), NOW).total == 1


def test_a_line_that_was_cut_short_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / REPLAYED_FILE).write_text(
        '{"letter":"t:0:1","verdict":"accepted","at":1}\n{"letter":"t:0:2","ver'
    )
    memory = ReplayedLetters(tmp_path)
    assert (track("a", "t:0:1") in memory, track("a", "t:0:2") in memory) == (True, False)
    memory.add([(track("a", "t:0:3"), "accepted")])
    assert track("a", "t:0:3") in ReplayedLetters(tmp_path)


def test_of_one_item_only_the_newest_entry_is_sent(tmp_path: Path) -> None:
    letters = item_entries("a", "b", "a")
    prepared = prepare(letters, ReplayedLetters(tmp_path), NOW)
    assert [entry["n"] for _, entry in prepared.sendable["/v1/items"]] == [1, 2]
    assert prepared.superseded == letters[:1]


def test_an_older_entry_is_not_sent_after_the_newest_was(
    ingestion: Ingestion, tmp_path: Path
) -> None:
    letters = item_entries("a", "a")
    send(
        prepare(letters, ReplayedLetters(tmp_path), NOW),
        ReplayedLetters(tmp_path),
        ingestion.url,
        "key",
    )
    assert [body["items"][0]["n"] for _, body in ingestion.bodies] == [1]
    second = prepare(letters, ReplayedLetters(tmp_path), NOW)
    assert (second.total, second.replayed, second.superseded) == (0, 2, [])


def test_an_older_entry_is_superseded_by_one_that_was_replayed_under_another_filter(
    tmp_path: Path,
) -> None:
    older = letter({"item_id": "a", "n": 0}, place="t:0:0", code="invalid_value")
    newer = letter({"item_id": "a", "n": 1}, place="t:0:1", code="invalid_id")
    done = ReplayedLetters(tmp_path)
    done.add([(newer, "accepted")])
    chosen = LetterFilter(codes=frozenset({"invalid_value"}))
    plan = prepare([older, newer], done, NOW, chosen=chosen)
    assert (plan.total, plan.replayed, plan.superseded) == (0, 0, [older])


def test_a_limit_counts_what_can_be_sent(tmp_path: Path) -> None:
    unsendable = [letter([], place=f"t:0:{n}") for n in range(10, 13)]
    letters = [*unsendable, *item_entries("a", "a", "b", "c")]
    plan = prepare(letters, ReplayedLetters(tmp_path), NOW, limit=2)
    assert [entry["n"] for _, entry in plan.sendable["/v1/items"]] == [1, 2]
