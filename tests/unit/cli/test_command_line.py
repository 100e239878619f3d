import json
import os
import shlex
import subprocess
import sys
import threading
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from services.start import needed_settings
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.services import SERVICES
from slipstream_cli.__main__ import cli
from slipstream_cli.benchmarks import freshness, runner
from slipstream_cli.commands import demo as demo_command
from slipstream_cli.commands import up as up_command
from slipstream_cli.local.plan import DATA_DIR
from slipstream_cli.local.processes import Child, free_port
from slipstream_cli.local.supervisor import is_ready
from tests.deploy.declared import names_a_setting, settings_class

COMMANDS = [
    "demo", "up", *SERVICES, "replay", "runs", "models", "write-keys", "dead-letters", "backfill", "simulate", "evaluate",
    "bench", "docs",
]  # fmt: skip
RUNS = [f"runs {name}" for name in ("list", "show", "start", "follow", "cancel")]
MODELS = [f"models {name}" for name in ("list", "show", "promote", "rollback")]


@pytest.mark.parametrize("command", [*COMMANDS, *RUNS, *MODELS])
def test_every_command_has_help_with_an_example(command: str) -> None:
    answer = CliRunner().invoke(cli, [*command.split(), "--help"])
    assert answer.exit_code == 0
    assert "Example:" in answer.output


def test_all_commands_are_listed() -> None:
    assert sorted(cli.commands) == sorted(COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["replay", "missing.parquet"], "'missing.parquet' does not exist"),
        (["evaluate", "missing.csv", "--protocol", "next-click"], "'missing.csv' does not exist"),
        (["evaluate", __file__, "--protocol", "guess"], "'guess' is not one of"),
        (
            ["evaluate", __file__, "--protocol", "next-click", "--k", "ten"],
            "'ten' is not a list of whole numbers",
        ),
        (
            ["simulate", "shop", "--visitors", "0", "--items", "1", "--events", "1"],
            "0 is not in the range x>=1",
        ),
        (["simulate", "shop", "--visitors", "5"], "Missing option '--items'"),
        (["bench", "everything"], "'everything' is not one of"),
        (["bench", "features", "--running"], "features are measured on servers of their own"),
        (
            ["bench", "ingestion", "--running", "--servers", "real"],
            "a running stack has its servers already",
        ),
        (["up", "--port", "serving"], "'serving': expected NAME=PORT"),
        (["unknown"], "No such command 'unknown'"),
    ],
)
def test_bad_arguments_get_one_clear_line_and_status_2(
    arguments: list[str], complaint: str
) -> None:
    answer = CliRunner().invoke(cli, arguments)
    assert answer.exit_code == 2
    assert complaint in answer.output
    assert "Traceback" not in answer.output


def test_replay_says_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("user_id,item_id\n1,2\n")
    answer = CliRunner().invoke(
        cli, ["replay", str(tmp_path / "events.csv"), "--url", "http://127.0.0.1:1"]
    )
    assert answer.exit_code == 1
    assert "timestamp" in answer.output.splitlines()[-1]
    assert "Traceback" not in answer.output


def test_evaluate_prints_metrics_with_intervals_and_writes_json(tmp_path: Path) -> None:
    rows = [
        f"{user},{(user + step) % 20},{1_700_000_000_000 + step * 60_000}"
        for user in range(60)
        for step in range(8)
    ]
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(rows))
    out = tmp_path / "out.json"
    options = [
        "--protocol",
        "leave-last-out",
        "--k",
        "5",
        "--search-minutes",
        "1",
        "--json",
        str(out),
    ]
    answer = CliRunner().invoke(cli, ["evaluate", str(tmp_path / "events.csv"), *options])
    assert answer.exit_code == 0, answer.output
    result = json.loads(out.read_text())
    assert result["queries"] == 60
    assert result["metrics"]["hit_rate@5"]["value"] > 0.5  # everybody walks the same way round
    assert any(line.startswith("hit_rate@5") and "[" in line for line in answer.output.splitlines())
    assert any(
        line.startswith("best part") and "ndcg@5" in line for line in answer.output.splitlines()
    )
    assert "60 questions" in answer.output
    assert (
        result["search"] == [] and "trials         0: too few events for a network" in answer.output
    )


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


def test_a_service_names_the_setting_that_is_wrong() -> None:
    environment = {**os.environ, "SLIPSTREAM_HTTP__PORT": "many"}
    ended = subprocess.run(
        [sys.executable, "-m", "services", "ingestion"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("Error: settings: SLIPSTREAM_HTTP__PORT: ")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({}, "SLIPSTREAM_INGESTION__WRITE_KEYS is not set: give at least one name:key"),
        (
            {"SLIPSTREAM_INGESTION__LINGER_MS": "2"},
            "SLIPSTREAM_INGESTION__WRITE_KEYS is not set: give at least one name:key",
        ),
        (
            {"SLIPSTREAM_INGESTION__WRITE_KEYS": "s3cret"},
            "SLIPSTREAM_INGESTION__WRITE_KEYS: each entry is name:key, several separated by commas",
        ),
    ],
)
def test_ingestion_without_a_write_key_gets_one_clear_line_and_status_1(
    keys: dict[str, str], complaint: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "services", "ingestion"],
        env=_no_settings() | keys,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"Error: settings: {complaint}\n"


@pytest.mark.parametrize("service", SERVICES)
def test_the_example_of_a_service_is_a_command_with_settings_that_it_accepts(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = (
        CliRunner()
        .invoke(cli, [service, "--help"])
        .output.partition("Example:")[2]
        .partition("Port:")[0]
    )
    *settings, command, name = shlex.split(shown.replace("\\\n", " "))
    assert (command, name) == ("slipstream", service)
    assert tuple(settings) == needed_settings(service)
    for variable in [v for v in os.environ if v.startswith("SLIPSTREAM_")]:
        monkeypatch.delenv(variable)
    for variable, _, value in (setting.partition("=") for setting in settings):
        assert names_a_setting(variable), variable
        monkeypatch.setenv(variable, value)
    settings_class(service)()


def test_ingestion_runs_with_the_settings_of_its_example(
    broker: KafkaSettings, namespace: str
) -> None:
    example = dict(setting.split("=", 1) for setting in needed_settings("ingestion"))
    example["SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS"] = broker.bootstrap_servers
    port = free_port()
    environment = (
        _no_settings()
        | example
        | {"SLIPSTREAM_HTTP__PORT": str(port), "SLIPSTREAM_NAMESPACE": namespace}
    )
    child = Child(
        "ingestion",
        port,
        [sys.executable, "-m", "services", "ingestion"],
        is_ready,
        grace_s=10,
        environment=environment,
    )
    try:
        child.start(60)
    finally:
        assert child.stop()


def test_the_demo_keeps_its_data_apart_from_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    folders: list[Path] = []

    def plan_of(directory: Path, *_: object) -> None:
        folders.append(directory)
        sys.exit(0)

    for module in (demo_command, up_command):
        monkeypatch.setattr(module, "plan_of", plan_of)
    for environment in ({DATA_DIR: None}, {DATA_DIR: "/data"}):
        for command in ("up", "demo"):
            CliRunner().invoke(cli, [command], env=environment)
    assert folders == [
        Path(".slipstream"),
        Path(".slipstream/demo"),
        Path("/data"),
        Path("/data/demo"),
    ]


def test_bench_says_which_real_servers_are_absent_and_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("KAFKA_HOME", raising=False)
    answer = CliRunner().invoke(cli, ["bench", "ingestion", "--servers", "real"])
    assert answer.exit_code == 1
    assert "Apache Kafka: unpack a binary from kafka.apache.org/downloads" in answer.output
    assert "Redis: Debian, Ubuntu: apt-get install redis-server" in answer.output
    assert "PostgreSQL" not in answer.output, "no SQL takes part in it"


@pytest.mark.parametrize("name", ["freshness", "serving"])
def test_benchmarks_send_the_api_token_of_the_stack_that_they_measure(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers.get("Authorization", ""))
            self.send_error(500)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(freshness, "Floor", lambda *_: nullcontext())
        description = {
            "ingestion": url,
            "serving": url,
            "write_key": "k",
            "kafka": "127.0.0.1:1",
            "namespace": "n",
        }
        with pytest.raises((ValueError, RuntimeError)):  # no answer is what it should be
            runner.measure(name, runner.target_of(description, token="s3cret"))
        server.shutdown()
    assert set(asked) == {"Bearer s3cret"}


def _no_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("SLIPSTREAM_")}


def test_the_command_of_one_service_loads_nothing_of_another() -> None:
    code = """
import sys, importlib
import slipstream_cli.__main__
importlib.import_module("services.ingestion.app"); importlib.import_module("services.ingestion.settings")
print([name for name in ("mlflow", "sklearn", "deltalake", "sqlalchemy", "scipy") if name in sys.modules])
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout.strip() == "[]"
