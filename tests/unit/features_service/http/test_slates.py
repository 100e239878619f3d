"""The routes about one slate, on a lake on disk."""

from types import SimpleNamespace

import orjson
import pyarrow as pa
import pytest
from fastapi.testclient import TestClient

from services.features.app import create_app
from services.features.settings import FeaturesSettings
from slipstream.chassis.bodies import LargeRequests
from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.positions import Source
from slipstream.contracts.slates import new_recommendation_id
from slipstream.contracts.times import now_ms
from slipstream.stores.lake import CATALOG, RECOMMENDATIONS, SCHEMAS, Lake
from slipstream.stores.lake_reader import day_of
from tests.unit.stores.lake_rows import catalog_rows

CIRCUMSTANCES = {"form": 1, "catalog": {"log": [1]}}


@pytest.fixture
def lake(lake_settings: LakeSettings) -> Lake:
    return Lake(lake_settings, "ns")


@pytest.fixture
def client(lake: Lake) -> TestClient:
    app = create_app(FeaturesSettings())
    app.state.parts = SimpleNamespace(lake=lake, past_catalogs=LargeRequests())
    return TestClient(app, base_url="http://127.0.0.1:8002")


def put_slate(lake: Lake, circumstances: object, **values: object) -> str:
    recommendation_id = new_recommendation_id(now_ms())
    row = {
        "recommendation_id": recommendation_id,
        "user_id": "ada",
        "timestamp": now_ms(),
        "items": [{"item_id": "a", "score": 0.5, "source": "ease"}],
        "answered_by": "model",
        "received_date": day_of(now_ms()),
        "placement_revision": 3,
        "circumstances": orjson.dumps(circumstances).decode() if circumstances else None,
        **values,
    }
    lake.append(RECOMMENDATIONS, pa.Table.from_pylist([row], SCHEMAS[RECOMMENDATIONS]), {})
    return recommendation_id


def test_a_slate_has_its_record_and_the_catalogue_that_it_was_made_from(
    lake: Lake, client: TestClient
) -> None:
    for offset, item_id in enumerate(("a", "later")):
        rows = catalog_rows(("item", item_id), topic_id="log", partition=0, offset=offset)
        lake.append(CATALOG, rows, {Source("catalog.v1", "log", 0): offset})
    path = f"/v1/slates/{put_slate(lake, CIRCUMSTANCES)}"
    slate = client.get(path).json()
    assert (slate["user_id"], slate["placement_revision"]) == ("ada", 3)
    assert slate["circumstances"] == CIRCUMSTANCES
    lines = client.get(f"{path}/catalog").text.splitlines()
    assert [orjson.loads(line)[2]["entity_id"] for line in lines] == ["a"]


@pytest.mark.parametrize("circumstances", [None, {"form": 99}])
def test_a_slate_without_circumstances_has_no_catalogue(
    lake: Lake, client: TestClient, circumstances: object
) -> None:
    path = f"/v1/slates/{put_slate(lake, circumstances)}"
    assert client.get(path).status_code == 200
    refused = client.get(f"{path}/catalog")
    assert (refused.status_code, refused.json()["code"]) == (409, "no_circumstances")


@pytest.mark.parametrize("recommendation_id", ["r-1", "0000000003e87de98ec423afa2681440"])
def test_a_slate_that_the_lake_does_not_have_is_told_so(
    client: TestClient, recommendation_id: str
) -> None:
    for path in (f"/v1/slates/{recommendation_id}", f"/v1/slates/{recommendation_id}/catalog"):
        missing = client.get(path)
        assert (missing.status_code, missing.json()["code"]) == (404, "no_slate")


def test_the_catalogue_s_changes_between_two_slates_are_all_records_since(
    lake: Lake, client: TestClient
) -> None:
    for offset, item_id in enumerate(("a", "b", "a", "later")):
        rows = catalog_rows(("item", item_id), topic_id="log", partition=0, offset=offset)
        lake.append(CATALOG, rows, {Source("catalog.v1", "log", 0): offset})
    first = put_slate(lake, CIRCUMSTANCES)
    last = put_slate(lake, CIRCUMSTANCES | {"catalog": {"log": [3]}})
    lines = client.get(f"/v1/slates/{last}/catalog", params={"since": first}).text.splitlines()
    found = sorted(orjson.loads(line)[:2] for line in lines)
    assert found == [["log:0", 1], ["log:0", 2]]
    missing = client.get(f"/v1/slates/{last}/catalog", params={"since": "r-1"})
    assert (missing.status_code, missing.json()["code"]) == (404, "no_slate")


def test_sampled_slates_come_as_lines_after_their_number(lake: Lake, client: TestClient) -> None:
    sampled = {"placement": "home", "sampled": True, "propensities": [0.5], "purpose": "shown"}
    recommendation_id = put_slate(lake, CIRCUMSTANCES, **sampled)
    put_slate(lake, CIRCUMSTANCES, placement="home")
    asked = {"placement": "home", "since": now_ms() - 60_000, "until": now_ms() + 60_000}
    answer = client.get("/v1/slates", params=asked)
    assert answer.headers["content-type"] == "application/x-ndjson"
    numbers, slate = map(orjson.loads, answer.text.splitlines())
    assert numbers == {"slates": 2, "sampled": 1, "given": 1}
    assert (slate["recommendation_id"], slate["propensities"]) == (recommendation_id, [0.5])
    assert slate["circumstances"] == CIRCUMSTANCES
    single = client.get(f"/v1/slates/{recommendation_id}").json()
    assert (single["sampled"], single["propensities"]) == (True, [0.5])
    assert client.get("/v1/slates", params=asked | {"limit": 10_001}).status_code == 422
