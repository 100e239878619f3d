"""The question to features before the broker stops, restarts, and what a broker did not keep."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from slipstream.chassis.access.tokens import TokenVerifier
from slipstream.chassis.settings import AccessSettings
from slipstream_cli.local import supervisor
from slipstream_cli.local.plan import API_TOKEN, make_plan
from slipstream_cli.local.supervisor import PAUSE_S, RESTARTS, UNSAVED_FILE, WITHIN_S, Supervisor
from slipstream_cli.local.terminal import Terminal

SECRET = "s" * 32
TOKEN_SECRET = "SLIPSTREAM_ACCESS__TOKEN_SECRET"
ISSUER = "SLIPSTREAM_ACCESS__TOKEN_ISSUER"


class _Alive:
    """A child that runs."""

    def __init__(self) -> None:
        self.child, self.alive = self, True


class _Dead:
    """A child that was killed, and its log."""

    alive, status, path = False, -9, "broker.log"

    def __init__(self) -> None:
        self.launched = 0

    def kill(self) -> None:
        """It has left no process behind."""

    def launch(self) -> None:
        self.launched += 1


class Dying:
    """A supervisor with a clock of its own; its broker dies whenever it was launched."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.now, self.said, self.child = 0.0, io.StringIO(), _Dead()
        patch.setattr("time.monotonic", lambda: self.now)
        self.stack = Supervisor(make_plan(folder, {}, any_ports=True), Terminal(self.said))
        child = cast(Any, self.child)
        self.stack._children = {"broker": supervisor._SupervisedChild(child, child)}

    def dies(self) -> None:
        self.stack._restart_if_dead("broker")

    def looks(self, after_s: float) -> None:
        self.now += after_s
        self.stack._restart_if_dead("broker")


class Features:
    """Answers like features that verify tokens, or know an API token."""

    def __init__(self, lag: int, access: Mapping[str, str], api_token: str | None = None) -> None:
        self.lag, self.api_token = lag, api_token
        self.verifier = TokenVerifier(AccessSettings.model_validate(access))

    def get_json(self, port: int, path: str, headers: Mapping[str, str] = {}) -> tuple[int, Any]:
        token = headers.get("Authorization", "").removeprefix("Bearer ")
        if token != self.api_token and self.verifier.find(token) is None:
            return 401, {"code": "unauthorized"}
        return 200, {"lag": self.lag, "caught_up": self.lag == 0}


def drained(
    folder: Path, environment: dict[str, str], features: Features, patch: pytest.MonkeyPatch
) -> str:
    """Let a stack with these settings drain, and return what it said."""
    patch.setattr(supervisor, "DRAIN_LIMIT_S", 0.3)
    patch.setattr(supervisor, "get_json", features.get_json)
    said = io.StringIO()
    stack = Supervisor(make_plan(folder, environment, any_ports=True), Terminal(said))
    stack._children = cast(Any, {"features": _Alive()})
    assert stack._drain() is ("did not catch up" not in said.getvalue())
    return said.getvalue()


@pytest.mark.parametrize("issuer", ["slipstream", "ours"])
def test_services_that_verify_tokens_are_asked_with_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, issuer: str
) -> None:
    features = Features(7, {"token_secret": SECRET, "token_issuer": issuer})
    said = drained(tmp_path, {TOKEN_SECRET: SECRET, ISSUER: issuer}, features, monkeypatch)
    assert "features did not catch up within 0.3 s: 7 records to go" in said
    features.lag = 0
    said = drained(tmp_path, {TOKEN_SECRET: SECRET, ISSUER: issuer}, features, monkeypatch)
    assert "did not" not in said


def test_services_with_an_api_token_are_asked_with_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = Features(0, {}, "known")
    assert "did not" not in drained(tmp_path, {API_TOKEN: "known"}, features, monkeypatch)


def test_that_features_could_not_be_asked_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = drained(tmp_path, {}, Features(7, {"token_secret": SECRET}), monkeypatch)
    assert "did not catch up within 0.3 s: HTTP 401" in said


def test_what_a_broker_did_not_keep_is_said_at_its_next_start_in_one_line(tmp_path: Path) -> None:
    said = io.StringIO()
    stack = Supervisor(make_plan(tmp_path, {}, any_ports=True), Terminal(said))
    stack._say_what_was_not_kept()
    assert said.getvalue() == ""
    (tmp_path / UNSAVED_FILE).touch()
    stack._say_what_was_not_kept()
    (line,) = said.getvalue().splitlines()
    assert "may be lost. Send these events again" in line


@pytest.fixture
def dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dying:
    return Dying(tmp_path, monkeypatch)


def test_a_child_is_started_again_after_a_second_ten_times_in_a_row(dead: Dying) -> None:
    for number in range(RESTARTS):
        dead.dies()
        assert dead.child.launched == number
        dead.looks(PAUSE_S / 2)
        assert dead.child.launched == number
        dead.looks(PAUSE_S / 2)
    assert dead.child.launched == RESTARTS
    dead.dies()
    dead.looks(10 * WITHIN_S)
    assert dead.child.launched == RESTARTS
    *before, last = dead.said.getvalue().splitlines()
    assert set(before) == {"broker died (signal 9) and starts again in 1 s; see broker.log"}
    assert "died (signal 9) after 10 restarts in a row, and stays down" in last


def test_deaths_that_lie_apart_are_not_in_a_row(dead: Dying) -> None:
    for _ in range(5 * RESTARTS):
        dead.dies()
        dead.looks(PAUSE_S)
        dead.now += WITHIN_S / RESTARTS
    assert dead.child.launched == 5 * RESTARTS
