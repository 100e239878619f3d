"""`slipstream simulate`."""

import json
import shlex
from functools import partial
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from slipstream_cli.__main__ import cli


def test_simulate_writes_a_shop_and_names_commands_that_take_it(tmp_path: Path) -> None:
    sizes = ["--visitors", "50", "--items", "20", "--events", "300", "--days", "7"]
    answer = CliRunner().invoke(cli, ["simulate", str(tmp_path / "shop"), *sizes])
    assert answer.exit_code == 0, answer.output
    assert "300 of 300 events" in answer.stderr
    counts = [int(line.split()[1].replace(",", "")) for line in answer.stdout.splitlines()[:3]]
    assert sum(counts) == 300
    offered = [
        line.partition("slipstream ")[2].rpartition("slipstream ")
        for line in answer.stdout.splitlines()[-2:]
    ]
    commands = [shlex.split(last) for _, _, last in offered]
    assert [command[0] for command in commands] == ["evaluate", "replay"]
    for name in ("interactions", "items"):
        assert all(str(tmp_path / "shop" / f"{name}.parquet") in command for command in commands)
    again = CliRunner().invoke(cli, ["simulate", str(tmp_path / "shop"), *sizes])
    assert again.exit_code == 1 and "interactions.parquet is there already" in again.output


@pytest.mark.parametrize("events", ["40", "20000"])
def test_simulate_says_which_numbers_do_not_fit(tmp_path: Path, events: str) -> None:
    sizes = ["--visitors", "50", "--items", "20", "--events", events, "--days", "7"]
    answer = CliRunner().invoke(cli, ["simulate", str(tmp_path / "shop"), *sizes])
    assert answer.exit_code == 1
    assert answer.output.startswith("Error: ") and "for 50 visitors" in answer.output
    assert not (tmp_path / "shop").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--live", "shop"], "OUT_DIR does not go with --live"),
        (["--live", "--events", "5"], "--events does not go with --live"),
        (["shop", "--rate", "5"], "--rate needs --live"),
        (["shop", "--json", "truth.json"], "--json needs --live"),
        (["--live", "--break-after", "5"], "--break-after needs --break"),
        (["--live", "--items", "50000"], "--items is at most 20,000 with --live"),
        ([], "Missing argument 'OUT_DIR'. With --live none is needed."),
    ],
)
def test_simulate_says_which_options_do_not_go_together(
    arguments: list[str], complaint: str
) -> None:
    answer = CliRunner().invoke(cli, ["simulate", *arguments])
    assert answer.exit_code == 2 and complaint in answer.output


class Services:
    """Ingestion, which accepts everything, and serving, which recommends three items."""

    def __init__(self) -> None:
        self.keys: set[str] = set()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={"status": "alive"})
        if request.url.path == "/v1/recommendations":
            items = [{"item_id": f"sim-{place}", "position": place} for place in range(3)]
            slate = {"recommendation_id": "r", "items": items, "answered_by": "trending"}
            return httpx.Response(200, json=slate)
        self.keys.add(request.headers["Authorization"])
        entries = next(iter(json.loads(request.content).values()))
        return httpx.Response(200, json={"results": [{"status": "accepted"} for _ in entries]})


LIVE = ["simulate", "--live", "--url", "http://in", "--serving-url", "http://out"]
SMALL = ["--shoppers", "20", "--items", "30", "--rate", "2000", "--seconds", "0.2"]


def test_simulate_live_visits_services_and_writes_the_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = Services()
    client = partial(httpx.AsyncClient, transport=httpx.MockTransport(services))
    monkeypatch.setattr(httpx, "AsyncClient", client)
    path = tmp_path / "truth.json"
    words = [*LIVE, *SMALL, "--write-key", "shop", "--json", str(path)]
    answer = CliRunner().invoke(cli, words)
    assert answer.exit_code == 0, answer.output
    truth = json.loads(path.read_text())
    assert f"{sum(truth['events'].values()):,} events in " in answer.output
    assert "% by the truth" in answer.output and f"Wrote {path}." in answer.output
    assert services.keys == {"Basic c2hvcDo="}
    assert truth["plan"]["rate"] == 2000 and len(truth["shoppers"]) == 20


NOWHERE = ["--url", "http://127.0.0.1:1", "--serving-url", "http://127.0.0.1:1"]


def test_simulate_live_says_what_to_do_where_a_service_is_unavailable() -> None:
    answer = CliRunner().invoke(cli, ["simulate", "--live", *NOWHERE, *SMALL])
    assert answer.exit_code == 1
    assert "does not answer" in answer.output
    assert "start it with slipstream up, or say where it is with --url" in answer.output
