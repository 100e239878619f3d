"""The question to features before the broker stops, and pauses before a dead child restarts."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from slipstream.chassis.access.tokens import TokenVerifier
from slipstream.chassis.settings import AccessSettings
from slipstream_cli.local import readiness, supervisor
from slipstream_cli.local.plan import API_TOKEN, TOKEN_SECRET, make_plan
from slipstream_cli.local.supervisor import (
    AT_ONCE,
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    WINDOW_S,
    Restarts,
    Supervisor,
)
from slipstream_cli.local.terminal import Terminal

SECRET = "s" * 32
ISSUER = "SLIPSTREAM_ACCESS__TOKEN_ISSUER"


class _Alive:
    """A child that runs."""

    def __init__(self) -> None:
        self.child, self.alive = self, True


class _Dead:
    """A child that was killed, and its log."""

    alive, status, path = False, -9, "broker.log"


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
    patch.setattr(readiness, "get_json", features.get_json)
    said = io.StringIO()
    stack = Supervisor(make_plan(folder, environment, any_ports=True), Terminal(said))
    stack._children = cast(Any, {"features": _Alive(), "broker": _Alive()})
    stack._drain()
    return said.getvalue()


@pytest.mark.parametrize("issuer", ["slipstream", "ours"])
def test_services_that_verify_tokens_are_asked_with_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, issuer: str
) -> None:
    features = Features(7, {"token_secret": SECRET, "token_issuer": issuer})
    said = drained(tmp_path, {TOKEN_SECRET: SECRET, ISSUER: issuer}, features, monkeypatch)
    assert "about 7 accepted records were not applied" in said
    features.lag = 0
    said = drained(tmp_path, {TOKEN_SECRET: SECRET, ISSUER: issuer}, features, monkeypatch)
    assert said == ""


def test_services_with_an_api_token_are_asked_with_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = Features(0, {}, "known")
    assert drained(tmp_path, {API_TOKEN: "known"}, features, monkeypatch) == ""


def test_that_features_could_not_be_asked_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = drained(tmp_path, {}, Features(7, {"token_secret": SECRET}), monkeypatch)
    (line,) = [line for line in said.splitlines() if "did not say" in line]
    assert "HTTP 401" in line and API_TOKEN in line and TOKEN_SECRET in line


@pytest.mark.parametrize(
    ("most", "words"),
    [
        (0, "no accepted event is lost;"),
        (1_250, "at most 1,250 accepted events may be lost. Send the latest again"),
        (None, "an unknown number of accepted events may be lost. Send the latest again"),
    ],
)
def test_a_broker_that_dies_costs_one_line_with_what_it_takes_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int | None, words: str
) -> None:
    monkeypatch.setattr(readiness.RecordsAtRisk, "at_most", lambda _: most)
    said = io.StringIO()
    stack = Supervisor(make_plan(tmp_path, {}, any_ports=True), Terminal(said))
    dead = supervisor._SupervisedChild(cast(Any, _Dead()), cast(Any, _Dead()))
    stack._children = {"broker": dead}
    stack._ready.set()
    stack._restart_if_dead("broker")
    (line,) = said.getvalue().splitlines()
    assert line.startswith(f"broker died (signal 9) with its records: {words}")


def test_a_child_that_dies_now_and_then_starts_again_at_once_for_ever() -> None:
    restarts = Restarts()
    assert {restarts.pause_after(number * WINDOW_S / AT_ONCE) for number in range(100)} == {
        FIRST_PAUSE_S
    }


def test_one_that_does_nothing_but_die_is_started_ever_more_slowly_and_never_given_up() -> None:
    restarts = Restarts()
    assert [restarts.pause_after(0.0) for _ in range(AT_ONCE + 2)][-3:] == [
        FIRST_PAUSE_S,
        2 * FIRST_PAUSE_S,
        4 * FIRST_PAUSE_S,
    ]
    assert [restarts.pause_after(1.0) for _ in range(2_000)][-1] == LONGEST_PAUSE_S


def test_what_lies_back_is_forgotten() -> None:
    restarts = Restarts()
    for _ in range(20):
        restarts.pause_after(0.0)
    assert restarts.pause_after(WINDOW_S) == FIRST_PAUSE_S
