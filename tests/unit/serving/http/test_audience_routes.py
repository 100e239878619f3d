"""The route of an item's audience."""

import httpx
import pytest
from pydantic import SecretStr

from slipstream.recommender.bundle import Bundle
from tests.unit.serving.app_on_fakes import URL, make_app
from tests.unit.serving.request.test_audiences import a_shop


def client_of(bundle: Bundle) -> httpx.AsyncClient:
    app = make_app(a_shop(bundle), api_token=SecretStr("secret"))
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url=URL,
        headers={"Authorization": "Bearer secret"},
    )


async def test_answer_names_users_with_score_and_place(bundle: Bundle) -> None:
    async with client_of(bundle) as client:
        answer = await client.get("/v1/users-for-item/item-05?n=1&among=2")
        assert answer.status_code == 200
        body = answer.json()
        (user,) = body.pop("users")
        assert 0 < user.pop("score") < 1
        assert user == {"user_id": "near", "place": 1, "active_at": 4}
        assert body == {
            "item_id": "item-05",
            "looked_at": 2,
            "already_met": 0,
            "active_since": 3,
            "active_until": 4,
            "model_version": "1",
            "reason": "",
        }


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("unheard-of", 404, "item_not_found"),
        ("item-05?n=1001", 422, "invalid_request"),
        ("item-05?among=5001", 422, "invalid_request"),
    ],
)
async def test_unknown_items_and_too_large_requests_are_refused(
    bundle: Bundle, path: str, status: int, code: str
) -> None:
    async with client_of(bundle) as client:
        answer = await client.get(f"/v1/users-for-item/{path}")
        assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_nobody_reads_it_without_credentials(bundle: Bundle) -> None:
    async with client_of(bundle) as client:
        answer = await client.get("/v1/users-for-item/item-05", headers={"Authorization": ""})
        assert answer.status_code == 401
