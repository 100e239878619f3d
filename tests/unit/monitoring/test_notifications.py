"""Notices of alerts, delivered to a real webhook and a real mail server on this machine."""

import email
import email.policy
import json
import socketserver
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from sqlalchemy import Engine
from structlog.testing import capture_logs

from services.monitoring.alert_repository import AlertBook
from services.monitoring.alert_rules import Alert, Transition
from services.monitoring.channels import Notice, Send, channels
from services.monitoring.notifications import GIVEN_UP_AFTER_MS, Notifier
from slipstream.contracts.events import Severity
from tests.unit.monitoring.builders import T0, database

OPEN = Alert(
    "behind-1",
    "behind",
    Severity.CRITICAL,
    "features' lag is 3 records",
    {"threshold": 2},
    "none",
    T0,
    T0,
    runbook="docs/runbook/no_champion.md",
)

RUNBOOK = "Runbook: http://m/runbook/no_champion.md"


class Hook(BaseHTTPRequestHandler):
    """A webhook that keeps what it gets, and answers with `status`."""

    status = 200
    got: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.status == 200:
            self.got.append(body)
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


class Mailbox(socketserver.StreamRequestHandler):
    """A mail server that keeps the letters it gets (RFC 5321)."""

    got: list[EmailMessage]

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline():
            command = line.strip().upper()
            if command == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                lines = list(iter(self.rfile.readline, b".\r\n"))
                policy = email.policy.default
                self.got.append(email.message_from_bytes(b"".join(lines), policy=policy))
            self.wfile.write(b"221 bye\r\n" if command == b"QUIT" else b"250 ok\r\n")
            if command == b"QUIT":
                return


@contextmanager
def served(server: socketserver.TCPServer) -> Iterator[int]:
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield int(server.server_address[1])
    server.shutdown()
    server.server_close()


@pytest.fixture
def hook() -> Iterator[tuple[str, type[Hook]]]:
    handler = type("OwnHook", (Hook,), {"got": []})
    with served(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as port:
        yield f"json://127.0.0.1:{port}/hook", handler


@pytest.fixture
def mailbox() -> Iterator[tuple[str, list[EmailMessage]]]:
    got: list[EmailMessage] = []
    handler = type("OwnMailbox", (Mailbox,), {"got": got})
    with served(socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler)) as port:
        yield (
            f"mailto://127.0.0.1:{port}?from=slipstream@shop.example&to=people@shop.example",
            got,
        )


class Desk:
    """A notifier on a database, with a clock and a lease that the test holds in its hands."""

    def __init__(self, db: Engine, sends: dict[str, Send]) -> None:
        self.now, self.lost = T0, False
        self.book = AlertBook(db, sends)
        self.notifier = Notifier(
            self.book, sends, "shop", "http://m/runbook", self._renew, lambda: self.now
        )

    def _renew(self) -> None:
        if self.lost:
            raise RuntimeError("another instance acts")

    def note(self, alert: Alert, transition: Transition) -> None:
        self.book.save({}, [alert], [(alert, transition)])

    def unsent(self) -> list[tuple[str, str]]:
        """Channel and transition of each notice that waits."""
        return [(notice.channel, notice.transition) for notice in self.book.unsent()]


class Receiver:
    """A channel that fails as often as a test says, and keeps what it takes."""

    def __init__(self) -> None:
        self.failures = 0
        self.got: list[str] = []

    def __call__(self, notice: Notice) -> str:
        if self.failures:
            self.failures -= 1
            return "no answer"
        self.got.append(notice.body.rpartition("Alert ")[2])
        return ""


@pytest.fixture
def desk(tmp_path: Path) -> Callable[[dict[str, Send]], Desk]:
    db = database(tmp_path)
    return lambda sends: Desk(db, sends)


def test_openings_and_closings_reach_a_webhook_and_a_mailbox(
    desk: Callable[[dict[str, Send]], Desk],
    hook: tuple[str, type[Hook]],
    mailbox: tuple[str, list[EmailMessage]],
) -> None:
    own = desk(channels(f"{hook[0]} {mailbox[0]}"))
    own.note(OPEN, "opened")
    own.notifier.step()
    own.now += 60_000
    own.note(OPEN.closed(own.now), "closed")
    own.notifier.step()
    own.notifier.step()
    opened, closed = hook[1].got
    assert (opened["title"], opened["type"]) == ("shop: behind opened (critical)", "failure")
    assert (closed["title"], closed["type"]) == ("shop: behind closed (critical)", "success")
    for words in ("lag is 3 records", RUNBOOK, '"threshold": 2', "Alert behind-1, opened"):
        assert words in opened["message"]
    assert [letter["subject"] for letter in mailbox[1]] == [opened["title"], closed["title"]]
    (letter, _) = mailbox[1]
    assert letter["to"] == "people@shop.example"
    body = letter.get_body(("html", "plain"))
    assert body is not None
    assert RUNBOOK in body.get_content()
    assert own.unsent() == []


def test_what_a_webhook_refuses_is_tried_again_with_its_reason(
    desk: Callable[[dict[str, Send]], Desk], hook: tuple[str, type[Hook]]
) -> None:
    own = desk(channels(hook[0]))
    own.note(OPEN, "opened")
    hook[1].status = 503
    with capture_logs() as entries:
        own.notifier.step()
        own.notifier.step()  # not due
        hook[1].status = 302  # leads elsewhere, which is not followed
        own.now += 5_000
        own.notifier.step()
    assert ["503" in entries[0]["reason"], "302" in entries[1]["reason"], len(entries)] == [
        True,
        True,
        2,
    ]
    hook[1].status = 200
    own.now += 10_000
    own.notifier.step()
    assert (own.unsent(), len(hook[1].got)) == ([], 1)


def test_after_a_restart_the_next_instance_delivers_what_waits_once(
    desk: Callable[[dict[str, Send]], Desk],
) -> None:
    receiver = Receiver()
    first = desk({"json-1": receiver})
    first.note(OPEN, "opened")
    receiver.failures = 1
    first.notifier.step()
    second = desk({"json-1": receiver})
    second.now += 5_000
    second.notifier.step()
    first.now = second.now
    first.notifier.step()
    assert receiver.got == ["behind-1, opened"]


@pytest.mark.parametrize("channel", ["json-1", "of-older-settings"])
def test_an_instance_without_the_lease_sends_nothing_and_gives_nothing_up(
    desk: Callable[[dict[str, Send]], Desk], channel: str
) -> None:
    receiver = Receiver()
    own = desk({channel: receiver})
    desk({"json-1": receiver}).note(OPEN, "opened")
    own.lost = True
    with pytest.raises(RuntimeError, match="another instance acts"):
        own.notifier.step()
    assert (receiver.got, own.unsent()) == ([], [("json-1", "opened")])


def test_a_round_of_checks_leaves_what_is_unsent(desk: Callable[[dict[str, Send]], Desk]) -> None:
    receiver = Receiver()
    own = desk({"json-1": receiver})
    own.note(OPEN, "opened")
    own.book.save({}, [replace(OPEN, checked_at=T0 + 1)])
    own.notifier.step()
    own.book.save({}, [replace(OPEN, checked_at=T0 + 2)])
    own.notifier.step()
    assert receiver.got == ["behind-1, opened"]


def test_a_closing_waits_for_its_opening_and_another_channel_does_not(
    desk: Callable[[dict[str, Send]], Desk],
) -> None:
    bad, good = Receiver(), Receiver()
    own = desk({"json-1": bad, "json-2": good})
    own.note(OPEN, "opened")
    bad.failures = 2
    own.notifier.step()
    own.now += 1
    own.note(OPEN.closed(own.now), "closed")
    own.notifier.step()
    assert (bad.got, good.got) == ([], ["behind-1, opened", "behind-1, closed"])
    own.now += 5_000
    own.notifier.step()
    own.now += 10_000
    own.notifier.step()
    assert bad.got == ["behind-1, opened", "behind-1, closed"]


def test_a_notice_that_is_never_taken_is_given_up_after_a_day(
    desk: Callable[[dict[str, Send]], Desk],
) -> None:
    receiver = Receiver()
    own = desk({"json-1": receiver})
    own.note(OPEN, "opened")
    receiver.failures = 1_000
    for _ in range(200):
        own.notifier.step()
        own.now += 900_000
    tries = 1_000 - receiver.failures
    assert GIVEN_UP_AFTER_MS // 900_000 <= tries <= GIVEN_UP_AFTER_MS // 900_000 + 10
    assert own.unsent() == []


def test_notices_for_a_channel_that_is_gone_are_given_up(
    desk: Callable[[dict[str, Send]], Desk],
) -> None:
    desk({"json-1": Receiver()}).note(OPEN, "opened")
    own = desk({"slack-1": Receiver()})
    assert own.unsent() == [("json-1", "opened")]
    own.notifier.step()
    assert own.unsent() == []


def test_a_notifier_that_stops_sends_no_more(desk: Callable[[dict[str, Send]], Desk]) -> None:
    receiver, stop = Receiver(), Event()
    own = desk({"json-1": receiver})
    own.note(OPEN, "opened")
    stop.set()
    own.notifier.run(stop)
    own.notifier.step(stop)
    assert receiver.got == []
