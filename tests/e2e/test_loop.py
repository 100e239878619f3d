"""The whole loop, as a story: what a visitor does changes what the visitor is recommended."""

import signal
import stat
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from slipstream.chassis.settings import LakeSettings
from slipstream.datasets.replay import replay
from slipstream.stores.lake import INTERACTIONS, Lake
from slipstream_cli.dead_letters import KEPT_FILE
from slipstream_cli.local.supervisor import UNSAVED_FILE
from tests.e2e import examined, first_hour, living, replayed, scraped, shop
from tests.e2e.stack import Stack, alive, caught_up, made_again, running, wait_for
from tests.servers import Servers, outside

BATCH = 500
SHOWN = 5
# A process that was killed is there again, on a busy machine.
AGAIN_LIMIT_S = 180.0


@pytest.fixture(scope="module")
def stack(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    # Training waits for our request, so that the story has one run. Serving waits longer for Redis
    # than it would, since a busy machine is no store that is away.
    with (
        outside(servers, tmp_path_factory.mktemp("servers")) as found,
        running(
            tmp_path_factory.mktemp("slipstream"),
            found,
            SLIPSTREAM_TRAINING__NEW_EVENTS="0",
            SLIPSTREAM_SERVING__REDIS_TIMEOUT_S="10",
        ) as stack,
    ):
        yield stack


def recommended(stack: Stack, user_id: str, **asked: Any) -> dict[str, Any]:
    return dict(stack.get("serving", f"/v1/recommendations/{user_id}", n=SHOWN, **asked))


def ids(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def kinds(answer: dict[str, Any]) -> list[str]:
    return [item.partition("-")[0] for item in ids(answer)]


def test_a_visitors_events_become_recommendations_and_these_become_a_report(stack: Stack) -> None:
    # A shop sends its catalogue and the events of its visitors.
    taken = stack.post("ingestion", "/v1/items", {"items": shop.ITEMS})["accepted"]
    assert taken == len(shop.ITEMS)
    events = shop.history()
    for start in range(0, len(events), BATCH):
        batch = events[start : start + BATCH]
        assert stack.post("ingestion", "/v1/import", {"batch": batch})["accepted"] == len(batch)

    # Features takes them in: all of them, into the online store and into the lake.
    wait_for(lambda: stack.get("features", "/v1/status")["caught_up"], "features to catch up")
    assert stack.get("features", "/v1/status")["lake"]["interactions"] == len(events)
    own = [event for event in events if event["userId"] == "tea-lover-0"]
    features = stack.get("features", "/v1/features/visitor/tea-lover-0")["features"]
    assert features["history_length"] == len(own)

    # Before there is a model, visitors get what is trending, and the answer says so.
    assert recommended(stack, "tea-lover-0")["answered_by"] != "model"

    # Training fits a model, finds it better than popularity, and promotes it; serving takes it up.
    run_id = stack.post("training", "/v1/runs", {"reason": "the first model"})["run_id"]

    def finished() -> dict[str, Any] | None:
        run: dict[str, Any] = stack.get("training", f"/v1/runs/{run_id}")
        return None if run["state"] in ("queued", "running") else run

    run = wait_for(finished, "the training run", 180)
    assert run["state"] == "succeeded", run
    version = stack.get("training", "/v1/aliases/champion")["version"]
    assert version == run["model_version"], run["decision_reason"]
    wait_for(
        lambda: stack.get("serving", "/v1/model")["version"] == version, "serving to load the model"
    )

    # Recommendations are personal: each visitor gets, nearly only, what is to their taste.
    tea, coffee = recommended(stack, "tea-lover-0"), recommended(stack, "coffee-lover-0")
    assert (tea["answered_by"], tea["model_version"]) == ("model", version)
    assert kinds(tea).count("tea") >= SHOWN - 1
    assert kinds(coffee).count("coffee") >= SHOWN - 1

    # A page of coffee shows coffee alone, whatever its visitor likes.
    of_coffee = recommended(stack, "tea-lover-0", filter='category == "coffee"')
    assert kinds(of_coffee) == ["coffee"] * SHOWN

    # The start page has rules of its own, which the shop can change while everything runs.
    pin = {"name": "ours", "action": "pin", "position": 2, "filter": 'item_id == "coffee-0"'}
    stack.put("monitoring", "/v1/placements/start", {"seen": "show", "rules": [pin]})

    def start_page() -> dict[str, Any]:
        return recommended(stack, "tea-lover-0", placement="start")

    wait_for(lambda: ids(start_page())[1] == "coffee-0", "the start page to keep to its rule")
    assert kinds(start_page()).count("tea") >= SHOWN - 2

    # A click on something else changes the very next lists.
    coffee_before = kinds(tea).count("coffee")
    clicked_at = time.time()
    for number in (3, 4):
        stack.post(
            "ingestion",
            "/v1/track",
            shop.track("tea-lover-0", "click", f"coffee-{number}", clicked_at + number / 100),
        )
    changed = wait_for(lambda: _more_coffee(stack, coffee_before), "the clicks to change the list")
    assert ids(changed) != ids(tea)

    # The lists of before can be made again, though the rules and the visitor are others now.
    assert all(made_again(stack, answer)["identical"] for answer in (tea, of_coffee))
    # A client that does not know whether its click arrived sends it again: the answer says that it
    # is a duplicate, and the click counts once.
    again = shop.track("tea-lover-0", "click", "coffee-3", clicked_at + 3 / 100)
    verdicts = stack.post("ingestion", "/v1/batch", {"batch": [again]})["results"]
    assert [verdict["status"] for verdict in verdicts] == ["duplicate"]

    # Somebody looks around without a name, then logs in: what was looked at before counts for the
    # user from then on.
    for number in (5, 6, 7):
        stack.post(
            "ingestion",
            "/v1/track",
            shop.track(None, "view", f"coffee-{number}", time.time(), anonymous_id="device-1"),
        )
    stack.post(
        "ingestion",
        "/v1/identify",
        {"anonymousId": "device-1", "userId": "newcomer", "traits": {"plan": "free"}},
    )
    wait_for(
        lambda: _history(stack, "newcomer") == 3,
        "the history of the device to become the user's",
    )
    assert kinds(recommended(stack, "newcomer")).count("coffee") >= SHOWN - 1
    # The device that goes on without saying who uses it still counts for the user.
    stack.post(
        "ingestion",
        "/v1/track",
        shop.track(None, "view", "coffee-8", time.time(), anonymous_id="device-1"),
    )
    wait_for(
        lambda: _history(stack, "newcomer") == 4, "the next view on the device to be the user's"
    )

    # A click on a recommendation names its slate; the report counts it for the model that made the
    # list.
    taken = ids(coffee)[0]
    click = shop.track(
        "coffee-lover-0",
        "click",
        taken,
        time.time(),
        recommendation_id=coffee["recommendation_id"],
        position=0,
    )
    stack.post("ingestion", "/v1/track", click)

    def reported() -> dict[str, Any] | None:
        report = stack.get("monitoring", "/v1/reports/quality", hours=1)
        rows = [row for row in report["by_model"] if row["model_version"] == version]
        return rows[0] if rows and rows[0]["click_through"]["count"] else None

    row = wait_for(reported, "the click to appear in the report")
    assert row["shown"] >= 2
    assert row["click_through"]["value"] == row["click_through"]["count"] / row["shown"]

    # The lake tells which place of the list was clicked, and what filled it.
    def credited() -> dict[str, Any] | None:
        report = stack.get("monitoring", "/v1/reports/outcomes", hours=1)
        total: dict[str, Any] = report["total"]
        return total if total["clicks"] else None

    total = wait_for(credited, "the click to be credited to its place")
    assert total["answers"] >= len(ids(coffee))

    # The timeline tells who put the model into service, and after which run.
    entries = {it["entry_id"]: it for it in stack.get("monitoring", "/v1/timeline")["items"]}
    promoted = entries[f"model:{version}:promoted"]
    assert (promoted["decided_by"], promoted["because"]) == ("gate", [f"run:{run_id}"])
    assert promoted["click_through"]["after"]["count"] >= 1
    assert entries[f"run:{run_id}"]["decided_by"] == "request"


def test_doctor_finds_what_is_wrong_with_a_running_stack(stack: Stack) -> None:
    examined.find_wrongs(stack)


def test_prometheus_asks_for_what_running_services_expose(stack: Stack) -> None:
    wait_for(lambda: scraped.unanswered(stack) == [], "the metrics that rules and panels ask for")
    scraped.measure_lists(stack, "tea-lover-0", "tea-1")


def test_monitoring_counts_the_visits_of_live_shoppers(stack: Stack, tmp_path: Path) -> None:
    living.count_visits(stack, tmp_path)


def test_the_commands_of_the_readme_find_the_teapot_when_they_are_pasted_at_once(
    stack: Stack,
) -> None:
    page = (first_hour.ROOT / "README.md").read_text()
    (block,) = (part for part in page.split("```") if part.startswith("console\n$ curl"))
    pasted = (
        block.removeprefix("console").replace("\n$ ", "\n").replace("dev:", stack.write_key + ":")
    )
    for name, url in first_hour.STANDARD.items():
        pasted = pasted.replace(url, stack.urls[name])
    printed = subprocess.run(
        ["bash", "-euc", pasted], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert '"title":"Teapot"' in printed, printed


def _history(stack: Stack, user_id: str) -> int:
    answer = stack.clients["features"].get(f"/v1/features/visitor/{user_id}")
    return int(answer.json()["features"]["history_length"]) if answer.is_success else 0


def _more_coffee(stack: Stack, before: int) -> dict[str, Any] | None:
    answer = recommended(stack, "tea-lover-0")
    return answer if kinds(answer).count("coffee") > before else None


def test_a_service_that_was_killed_is_started_again(stack: Stack) -> None:
    killed = stack.kill("features")
    wait_for(lambda: stack.has_another("features", killed), "a new process", AGAIN_LIMIT_S)
    wait_for(
        lambda: stack.get("features", "/health/ready")["status"] == "ready",
        "features to be ready",
        AGAIN_LIMIT_S,
    )


@pytest.mark.servers("real")  # it takes ten seconds
def test_features_killed_in_the_middle_of_a_replay_counts_every_event_once(
    stack: Stack, tmp_path: Path
) -> None:
    rows = replayed.interactions()
    before = wait_for(lambda: caught_up(stack), "the lake to have what was sent before")["lake"][
        "interactions"
    ]
    sent: list[int] = [0]
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(
            replay,
            replayed.write(rows, tmp_path / "interactions.csv"),
            url=stack.urls["ingestion"],
            write_key=stack.write_key,
            speed=replayed.SPEED,
            batch_size=100,
            progress=lambda step: sent.append(step.done),
        )
        wait_for(lambda: sent[-1] >= len(rows) // 3, "a third of the replay")
        killed = stack.kill("features")
        assert sent[-1] < len(rows), "the replay was over before the kill"
        report = sending.result(180)
    assert (report.accepted, report.rejected, report.duplicates) == (len(rows), 0, 0)
    wait_for(lambda: stack.has_another("features", killed), "a new process", AGAIN_LIMIT_S)
    status = wait_for(lambda: caught_up(stack), "features to catch up", AGAIN_LIMIT_S)

    # Redis: each visitor's and each item's counts. A loss makes one smaller, a repetition one
    # larger.
    for view, due in (
        ("visitor", replayed.counts(rows, "user_id")),
        ("item", replayed.counts(rows, "item_id")),
    ):
        held = {
            name: Counter(stack.get("features", f"/v1/features/{view}/{name}")["counts"])
            for name in due
        }
        assert held == due
    # The lake: the very events, each in one row.
    history = Lake(LakeSettings(uri=str(stack.directory / "lake")), "slipstream")
    table = history.read(INTERACTIONS, columns=["event_id", *replayed.COLUMNS])
    kept = [row for row in table.to_pylist() if row["user_id"].startswith(replayed.PREFIX)]
    assert sorted(tuple(row[name] for name in replayed.COLUMNS) for row in kept) == sorted(rows)
    assert len({row["event_id"] for row in kept}) == len(rows)
    assert status["lake"]["interactions"] == before + len(rows)


def test_a_broker_that_was_killed_is_started_again_and_events_flow(
    stack: Stack, servers: Servers
) -> None:
    before = stack.get("features", "/v1/status")["lake"]["interactions"]
    stack.kill("broker")
    event = shop.track("late-visitor", "view", "tea-1", time.time())
    wait_for(
        lambda: stack.post("ingestion", "/v1/batch", {"batch": [event]})["accepted"] == 1,
        "ingestion to accept",
        AGAIN_LIMIT_S,
    )
    wait_for(
        lambda: (
            stack.get("features", "/v1/features/visitor/late-visitor")["features"]["history_length"]
            >= 1
        ),
        "features to take in an event from the new broker",
        AGAIN_LIMIT_S,
    )
    wait_for(
        lambda: stack.get("features", "/v1/status")["lake"]["interactions"] > before,
        "the lake to grow",
        AGAIN_LIMIT_S,
    )
    said = (stack.directory / "up.log").read_text()
    assert said.count("may be lost") == (servers.kind == "embedded")


def test_ctrl_c_stops_everything_once_what_was_accepted_is_in_the_lake_and_a_second_start_goes_on(
    stack: Stack, servers: Servers
) -> None:
    """Last, since it ends the module's stack."""
    lake = Lake(LakeSettings(uri=str(stack.directory / "lake")), "slipstream")
    wait_for(lambda: caught_up(stack), "features to catch up")
    there = lake.count(INTERACTIONS)
    version = stack.get("training", "/v1/aliases/champion")["version"]
    before = list(stack.children.values())
    assert len(stack.processes) >= 7
    events = shop.history(seed=2)
    parts = [events[start : start + BATCH] for start in range(0, len(events), BATCH)]
    accepted = sum(
        stack.post("ingestion", "/v1/import", {"batch": part})["accepted"] for part in parts
    )
    assert stack.post("ingestion", "/v1/batch", {"batch": [{"type": "page"}]})["rejected"] == 1
    assert stack.stop(signal.SIGINT) == 0
    wait_for(lambda: not alive(before), "what the kernel ends with the supervisor to be gone")
    assert "did not catch up" not in (stack.directory / "up.log").read_text()
    assert not (stack.directory / UNSAVED_FILE).exists()
    assert accepted == len(events) > 2_000
    assert lake.count(INTERACTIONS) == there + accepted
    if servers.kind == "embedded":  # whose files are among the stack's
        _assert_its_user_s_alone(stack.directory)
        assert '"missing_user"' in (stack.directory / KEPT_FILE).read_text()

    with running(stack.directory, stack.outside, SLIPSTREAM_TRAINING__NEW_EVENTS="0") as again:
        rows = again.get("features", "/v1/status")["lake"]["interactions"]
        assert rows == there + accepted
        wait_for(
            lambda: again.get("serving", "/v1/model")["version"] == version,
            "the model to be there again",
        )
        answer = wait_for(lambda: _by_model(again), "an answer from the model")
        # The items of the live shoppers are new, and stand between.
        own = [kind for kind in kinds(answer) if kind != "sim"]
        assert own and own.count("coffee") >= len(own) - 1
        # Killed outright, the supervisor takes its children along: the kernel sees to it.
        assert "may be lost" not in (stack.directory / "up.log").read_text()
        assert (stack.directory / UNSAVED_FILE).exists() is (servers.kind == "embedded")
        orphans = list(again.children.values())
        again.process.kill()
        again.process.wait()
        wait_for(lambda: alive(orphans) == [], "the children to be gone")


def _by_model(stack: Stack) -> dict[str, Any] | None:
    answer = recommended(stack, "coffee-lover-1")
    return answer if answer["answered_by"] == "model" else None


def _assert_its_user_s_alone(folder: Path) -> None:
    kept = [path for path in folder.rglob("*") if path.name != "up.log"]
    assert {path.suffix for path in kept} >= {".db", ".log", ".parquet"}
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (folder, *kept)}
    wrong = {path: mode for path, mode in modes.items() if mode != (0o600, 0o700)[path.is_dir()]}
    assert wrong == {}
