"""A shop that learns for weeks: what the gate lets into service, what it keeps out, and the way
back, seen from serving.
"""

from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from services.serving.app import create_app as create_serving
from services.serving.settings import ServingSection, ServingSettings
from slipstream.chassis.settings import HttpSettings, PeerSettings, RedisSettings
from slipstream.contracts.times import DAY_MS
from slipstream.stores.lake import Lake
from slipstream_cli.__main__ import cli
from tests.integration.training_service import Settings, ended, running, served
from tests.unit.training.histories import START_MS, chain, write
from tests.waiting import until


@pytest.mark.servers("real")
def test_a_degraded_challenger_is_refused_a_better_one_promoted_and_rolled_back(
    make_settings: Settings, redis_settings: RedisSettings, tmp_path: Path
) -> None:
    settings = make_settings(niceness=0)  # three runs are waited for
    lake = Lake(settings.lake, settings.namespace)

    def weeks_later(weeks: int, visitors: int, stride: int) -> None:
        write(
            lake,
            chain(visitors, seed=weeks, start_ms=START_MS + weeks * 14 * DAY_MS, stride=stride),
        )

    with running(settings) as training:
        serving_settings = ServingSettings(
            namespace=settings.namespace,
            kafka=settings.kafka,
            redis=redis_settings,
            http=HttpSettings(port=0),
            peers=PeerSettings(training_url=str(training.base_url)),
            serving=ServingSection(
                cache_dir=tmp_path / "serving", champion_poll_s=600
            ),  # only events make it look
        )
        weeks_later(0, visitors=30, stride=1)
        first = _trained(training)
        assert first["decision"] == "promoted", first
        with served(create_serving(serving_settings)) as serving:
            until(
                lambda: _answer(serving) == (first["model_version"], "i5"),
                "serving did not take the first model",
            )

            # For two weeks a broken tracker tells visits backwards. What is fitted on that is worse
            # for those who come then.
            weeks_later(1, visitors=60, stride=-1)
            weeks_later(2, visitors=12, stride=1)
            degraded = _trained(training)
            assert (degraded["state"], degraded["decision"]) == ("succeeded", "refused"), degraded
            assert training.get("/v1/aliases/champion").json()["version"] == first["model_version"]
            assert (
                training.get("/v1/aliases/challenger").json()["version"]
                == degraded["model_version"]
            )
            assert _answer(serving) == (first["model_version"], "i5")

            # The shop is rearranged, and a model that has seen it predicts the next item better.
            weeks_later(3, visitors=60, stride=5)
            better = _trained(training)
            assert better["decision"] == "promoted", better
            until(
                lambda: _answer(serving)[0] == better["model_version"],
                "serving did not take the better model",
            )

            urls = ["--url", str(training.base_url), "--serving-url", str(serving.base_url)]
            rolled_back = CliRunner().invoke(
                cli, ["models", "rollback", "--reason", "the shelves are back", *urls]
            )
            assert rolled_back.exit_code == 0, rolled_back.output
            assert f"{first['model_version']}  is the champion" in rolled_back.stdout
            assert _answer(serving) == (first["model_version"], "i5")

        newest = training.get("/v1/models", params={"limit": 1}).json()
        others = training.get("/v1/models", params={"cursor": newest["next_cursor"]}).json()[
            "items"
        ]
        assert [model["version"] for model in (*newest["items"], *others)] == [
            run["model_version"] for run in (better, degraded, first)
        ]
        assert first["lake_version"] < degraded["lake_version"] < better["lake_version"]


def _trained(training: httpx.Client) -> dict[str, Any]:
    """A run, seen through to its end by the command."""
    followed = CliRunner().invoke(
        cli, ["runs", "start", "--follow", "--url", str(training.base_url)]
    )
    assert followed.exit_code == 0, followed.output
    assert "100%  succeeded" in followed.stderr
    (newest,) = training.get("/v1/runs", params={"limit": 1}).json()["items"]
    return ended(training, newest["run_id"])


def _answer(serving: httpx.Client) -> tuple[str | None, str | None]:
    """The model that answers somebody who has seen i3 and i4, and what it recommends next."""
    session = {"events": [{"item_id": "i3"}, {"item_id": "i4"}], "n": 1}
    answer = serving.post("/v1/sessions:recommend", json=session).raise_for_status().json()
    return answer["model_version"], next((item["item_id"] for item in answer["items"]), None)
