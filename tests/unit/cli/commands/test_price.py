"""`slipstream price`, with serving's answers."""

import json
from functools import partial
from typing import Any

import httpx
import pytest

from tests.unit.cli.rest_answers import Answers, asked, problem

invoke = partial(asked, "serving", "price", "home")

PRICES = "POST /v1/prices"
ESTIMATE: dict[str, Any] = {
    "assumption": "position",
    "estimator": "dr",
    "difference": 12.5,
    "low": 2.0,
    "high": 23.0,
    "verdict": "more",
    "reason": "",
    "slates_needed": None,
}
UNTOLD = ESTIMATE | {"verdict": "cant_tell", "slates_needed": 40_000, "low": None}
UNTOLD |= {"reason": "it rests on 9 visitors"}
PRICE: dict[str, Any] = {
    "slates": 9_000,
    "sampled": 1_200,
    "weighed": 1_180,
    "visitors": 700,
    "left_out": {"the list comes out otherwise": 20},
    "notes": ["the list of trending items is not recorded (3 slates)"],
    "took_s": 61.0,
    "rewards": [
        {"reward": "clicks", "currency": None, "logged": 310.0, "estimates": [ESTIMATE]},
        {"reward": "revenue", "currency": "EUR", "logged": 4_000.0, "estimates": [UNTOLD]},
    ],
}


@pytest.fixture
def lines(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The lines that serving answers with."""
    given: list[dict[str, Any]] = []

    def handle(request: httpx.Request) -> httpx.Response:
        answers.heard.append((f"POST {request.url.path}", json.loads(request.content)))
        return httpx.Response(200, content="".join(json.dumps(line) + "\n" for line in given))

    monkeypatch.setattr(answers, "transport", lambda: httpx.MockTransport(handle))
    return given


def test_a_price_is_shown_with_intervals_verdicts_and_what_would_do(
    answers: Answers, lines: list[dict[str, Any]]
) -> None:
    lines += [{"done": 0, "of": 1_200}, {"done": 1_200, "of": 1_200, "price": PRICE}]
    result = invoke("--without-rule", "sponsored", "--boost", "2:price < 20", "--currency", "EUR")
    shown = result.output
    assert "recomputed  1,180 of 700 visitors" in shown
    assert "clicks in 1,000 slates: 310 as they were" in shown
    assert "position    dr         +12.5   +2    +23  more, surely" in shown
    assert "revenue EUR in 1,000 slates: 4000 as they were" in shown
    assert "Because it rests on 9 visitors." in shown
    assert "About 40,000 sampled slates would tell." in shown
    assert "Note: the list of trending items is not recorded (3 slates)." in shown
    _, body = answers.heard[-1]
    assert body["draft"] == {
        "without_rules": ["sponsored"],
        "boosts": [{"factor": 2.0, "filter": "price < 20"}],
    }
    assert (body["placement"], body["currency"]) == ("home", "EUR")
    assert body["until"] - body["since"] == pytest.approx(7 * 86_400_000, abs=60_000)
    assert json.loads(invoke("--diversity", "0.5", "--json").output) == PRICE


def test_a_problem_on_the_way_ends_the_command_with_its_words(
    lines: list[dict[str, Any]],
) -> None:
    lines += [{"done": 0, "of": 9}, {"done": 4, "of": 9, "problem": {"detail": "features is away"}}]
    result = invoke("--diversity", "0.5")
    assert result.exit_code == 1
    assert "Error: features is away" in result.output
    lines.pop()
    assert "before the price" in invoke("--diversity", "0.5").output


def test_a_refused_price_and_a_draft_of_nothing_are_errors_of_one_line(answers: Answers) -> None:
    answers.by_request[PRICES] = problem(409, "none of the 90 slates has an order that was sampled")
    result = invoke("--diversity", "0.5")
    assert (result.exit_code, result.output) == (
        1,
        "Error: none of the 90 slates has an order that was sampled\n",
    )
    assert "what is to be another one" in invoke().output
