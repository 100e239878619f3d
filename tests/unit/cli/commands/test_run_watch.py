from typing import Any

import pytest

from slipstream.chassis.client import Peer, PeerError
from slipstream.contracts.rest import Run
from slipstream_cli.commands.run_watch import activity, follow
from tests.unit.cli.rest_answers import Answers, InTurn, problem


def run(state: str = "running", **fields: Any) -> dict[str, Any]:
    return {"run_id": "r1", "state": state, "trigger": "request", "created_at": 1} | fields


def followed(
    answers: Answers, patience_s: float = 60.0
) -> tuple[Run, list[tuple[float, str, str]]]:
    shown: list[tuple[float, str, str]] = []
    training = Peer("training", "http://training", retries=0, transport=answers.transport())
    ended = follow(training, "r1", lambda *it: shown.append(it), poll_s=0, patience_s=patience_s)
    return ended, shown


def test_follow_shows_what_a_run_does_until_it_has_ended() -> None:
    answers = Answers()
    ahead = run(run_id="r0", progress=0.5, created_at=0)
    answers.by_request["GET /v1/runs"] = {"items": [run("queued"), ahead]}
    answers.by_request["GET /v1/runs/r1"] = InTurn(
        run("queued"),
        run(
            stage="fitting the challenger: transformer",
            progress=0.25,
            epoch=3,
            epochs=20,
            loss=5.12345,
        ),
        run("succeeded", progress=1.0, finished_at=9),
    )
    ended, shown = followed(answers)
    assert ended.state == "succeeded"
    assert shown == [
        (0.0, "waiting for its turn behind r0 (running, 50 %)"),
        (0.25, "fitting the challenger: transformer, epoch 3 of 20, loss 5.123"),
        (1.0, "succeeded"),
    ]


def test_follow_says_why_a_run_has_started_again() -> None:
    answers = Answers()
    answers.by_request["GET /v1/runs"] = {"items": []}
    answers.by_request["GET /v1/runs/r1"] = InTurn(
        run("queued", attempt=2, error="killed"),
        run(stage="judging", attempt=2, error="killed"),
        run("succeeded", finished_at=3, attempt=2),
    )
    _, shown = followed(answers)
    assert [words for _, words in shown] == [
        "waiting for its turn, attempt 2 (killed)",
        "judging, attempt 2 (killed)",
        "succeeded",
    ]


def test_follow_waits_for_a_service_that_restarts() -> None:
    answers = Answers()
    answers.by_request["GET /v1/runs/r1"] = InTurn(
        None, problem(503, "starting"), run("succeeded", finished_at=2)
    )
    ended, shown = followed(answers)
    assert ended.state == "succeeded"
    assert [text for _, text in shown[:2]] == ["training does not answer; waiting for it"] * 2


def test_follow_gives_up_on_a_service_that_stays_away_and_on_a_run_that_is_not_there() -> None:
    answers = Answers()
    with pytest.raises(PeerError, match="can't be reached"):
        followed(answers, patience_s=0.01)
    answers.by_request["GET /v1/runs/r1"] = problem(404, "there is no run r1")
    with pytest.raises(PeerError) as missing:
        followed(answers)
    assert missing.value.detail == "there is no run r1"


def test_words_say_only_what_is_known() -> None:
    assert activity(Run.model_validate(run())) == "starting"
    assert activity(Run.model_validate(run(stage="judging"))) == "judging"
    assert activity(Run.model_validate(run(stage="fitting", epoch=3))) == "fitting, epoch 3"
