"""The route of active visitors, on a store of dictionaries."""

from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient

from services.features.app import create_app
from services.features.settings import FeaturesSettings
from tests.unit.serving.fakes import FakeOnline, visitor

STRANGE = "שלום/<b>" + "x" * 240


@pytest.fixture
def online() -> FakeOnline:
    return FakeOnline(
        {
            "ada": visitor("a"),
            "device-1": visitor("a", "b"),
            STRANGE: visitor(*"abc"),
            "device-2": visitor(*"abcd"),
        }
    )


@pytest.fixture
def client(online: FakeOnline) -> TestClient:
    app = create_app(FeaturesSettings())
    app.state.parts = SimpleNamespace(reader=online)
    return TestClient(app, base_url="http://127.0.0.1:8002")


def test_who_was_active_last_comes_first_and_each_user_once(
    client: TestClient, online: FakeOnline
) -> None:
    online.users_of = {"device-1": "bob", "device-2": "bob"}
    assert client.get("/v1/visitors").json() == {
        "items": [
            {"user_id": "bob", "last_seen": 4},
            {"user_id": STRANGE, "last_seen": 3},
            {"user_id": "ada", "last_seen": 1},
        ]
    }
    assert [each["user_id"] for each in client.get("/v1/visitors?limit=1").json()["items"]] == [
        "bob"
    ]


def test_limits_are_checked_and_a_store_that_is_away_is_told(
    client: TestClient, online: FakeOnline
) -> None:
    for query in ("limit=0", "limit=201", "n=5"):
        assert client.get(f"/v1/visitors?{query}").status_code == 422
    online.away = True
    assert client.get("/v1/visitors").status_code == 503
