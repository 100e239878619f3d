"""`slipstream keys`, with monitoring's answers."""

import json
from functools import partial

import pytest
from click.testing import CliRunner, Result

from services.ingestion.settings import configured_keys
from slipstream.chassis.access.keys import KeyRing
from slipstream.chassis.access.page_tokens import PageTokens
from slipstream_cli.__main__ import cli
from tests.unit.cli.rest_answers import Answers, InTurn, asked, problem

invoke = partial(asked, "monitoring", "keys")

ENTRY = {
    "id": "0a0a0a0a0a0a", "name": "shop", "scopes": ["events"], "browser": False, "origins": [],
    "created_at": 1_700_000_000_000, "created_by": "api-token",
    "expires_at": None, "revoked_at": None, "last_used_at": None,
}  # fmt: skip


def test_a_new_key_is_shown_once_on_standard_output(answers: Answers) -> None:
    answers.by_request["POST /v1/keys"] = (201, ENTRY | {"key": "made"})
    made = invoke("create", "shop", "--scope", "events", "--expires-in", "1h")
    assert made.stdout == "made\n" and "can't be shown again" in made.stderr
    ((_, body),) = answers.heard
    assert body["scopes"] == ["events"] and body["expires_at"] > 1_700_000_000_000
    invoke("create", "page", "--browser", "--origin", "https://shop.example")
    assert answers.heard[-1][1]["scopes"] == ["events", "identify", "recommend"]


def test_a_key_without_scopes_or_with_unknown_ones_is_refused(answers: Answers) -> None:
    assert invoke("create", "shop").exit_code == 2
    assert invoke("create", "shop", "--scope", "fly").exit_code == 2
    assert answers.heard == []


@pytest.mark.parametrize("time", ["0", "0s", "0d"])
def test_a_key_that_ends_at_once_is_refused_and_not_made_for_ever(
    answers: Answers, time: str
) -> None:
    refused = invoke("create", "shop", "--scope", "events", "--expires-in", time)
    assert refused.exit_code == 2 and "--expires-in 0 would never count" in refused.output
    assert answers.heard == []


def test_list_shows_which_keys_count(answers: Answers) -> None:
    past, future = 1_700_000_000_000, 9_700_000_000_000
    answers.by_request["GET /v1/keys"] = {
        "items": [
            ENTRY | {"last_used_at": past},
            ENTRY | {"expires_at": past},
            ENTRY | {"expires_at": future},
            ENTRY | {"revoked_at": past},
        ]
    }
    lines = invoke("list").output.splitlines()[1:]
    assert ["counts" in lines[0], "ended" in lines[1], "ends" in lines[2], "revoked" in lines[3]]
    assert "never" in lines[1] and "never" not in lines[0]
    assert json.loads(invoke("list", "--json").output)[0]["name"] == "shop"


def test_list_asks_for_every_page(answers: Answers) -> None:
    answers.by_request["GET /v1/keys"] = InTurn(
        {"items": [ENTRY], "next_cursor": "1-0a"},
        {"items": [ENTRY | {"name": "page"}], "next_cursor": None},
    )
    assert [key["name"] for key in json.loads(invoke("list", "--json").output)] == ["shop", "page"]


def test_rotation_and_revocation(answers: Answers) -> None:
    answers.by_request["POST /v1/keys/shop:rotate"] = ENTRY | {"key": "fresh"}
    answers.by_request["POST /v1/keys/shop:revoke"] = {"revoked": 2}
    assert invoke("rotate", "shop", "--grace", "30m").stdout == "fresh\n"
    assert answers.heard[-1][1] == {"grace_ms": 1_800_000}
    assert "2 keys of shop revoked" in invoke("revoke", "shop").output


@pytest.mark.parametrize("arguments", [("revoke", "shop"), ("rotate", "shop")])
def test_a_name_without_keys_is_one_clear_line(
    answers: Answers, arguments: tuple[str, ...]
) -> None:
    action = f"POST /v1/keys/shop:{arguments[0]}"
    answers.by_request[action] = problem(404, "shop has no key that counts")
    answer = invoke(*arguments)
    assert (answer.exit_code, answer.output) == (1, "Error: shop has no key that counts\n")


def test_a_user_is_signed_without_a_service(answers: Answers) -> None:
    key = "k" * 32

    def sign(*more: str, with_key: str = key) -> Result:
        arguments = ["keys", "sign-user", "ada", "--anonymous-id", "a1", *more]
        return CliRunner().invoke(cli, arguments, env={"SLIPSTREAM_WRITE_KEY": with_key})

    made = sign()
    assert (made.exit_code, made.stderr) == (0, "")
    tokens = PageTokens(KeyRing(configured_keys(f"shop:{key}", "", "*")))
    assert tokens.doubt(made.stdout.strip(), "ada", "a1") is None
    assert tokens.doubt(made.stdout.strip(), "ada", "a2") == "wrong_anonymous_id"
    long = sign("--for", "11m")
    assert long.exit_code == 2 and "at most 10m" in long.output
    assert "can be guessed" in sign(with_key="dev").stderr
    assert answers.heard == []
