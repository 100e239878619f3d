import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from services.__main__ import SERVICES, cli

COMMANDS = ["demo", "up", *SERVICES, "replay", "evaluate", "bench", "docs"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    answer = CliRunner().invoke(cli, [command, "--help"])
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
        (["evaluate", __file__, "--protocol", "next-click", "--k", "ten"], "'ten' is not a list of whole numbers"),
        (["bench", "everything"], "'everything' is not one of"),
        (["up", "--port", "serving"], "'serving': expected NAME=PORT"),
        (["unknown"], "No such command 'unknown'"),
    ],
)
def test_bad_arguments_get_one_clear_line_and_status_2(arguments: list[str], complaint: str) -> None:
    answer = CliRunner().invoke(cli, arguments)
    assert answer.exit_code == 2
    assert complaint in answer.output
    assert "Traceback" not in answer.output


def test_replay_says_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("user_id,item_id\n1,2\n")
    answer = CliRunner().invoke(cli, ["replay", str(tmp_path / "events.csv"), "--url", "http://127.0.0.1:1"])
    assert answer.exit_code == 1
    assert "timestamp" in answer.output.splitlines()[-1]
    assert "Traceback" not in answer.output


def test_evaluate_prints_metrics_with_intervals_and_writes_json(tmp_path: Path) -> None:
    rows = [f"{user},{(user + step) % 20},{1_700_000_000_000 + step * 60_000}" for user in range(60) for step in range(8)]
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(rows))
    out = tmp_path / "out.json"
    answer = CliRunner().invoke(
        cli, ["evaluate", str(tmp_path / "events.csv"), "--protocol", "leave-last-out", "--k", "5", "--json", str(out)]
    )
    assert answer.exit_code == 0, answer.output
    result = json.loads(out.read_text())
    assert result["queries"] == 60
    assert result["metrics"]["hit_rate@5"]["value"] > 0.5  # everybody walks the same way round
    assert any(line.startswith("hit_rate@5") and "[" in line for line in answer.output.splitlines())


def test_a_service_names_the_setting_that_is_wrong() -> None:
    environment = {**os.environ, "SLIPSTREAM_HTTP__PORT": "many"}
    ended = subprocess.run(
        [sys.executable, "-m", "services", "ingestion"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("Error: settings: SLIPSTREAM_HTTP__PORT: ")
    assert "Traceback" not in ended.stderr


def test_up_refuses_a_data_folder_that_is_in_use(tmp_path: Path) -> None:
    from services.standalone.plan import make_plan
    from services.standalone.processes import StartError
    from services.standalone.supervisor import Supervisor, _locked, running_stack
    from services.standalone.terminal import Terminal

    plan = make_plan(tmp_path, {}, any_ports=True)
    with _locked(plan):
        assert running_stack(tmp_path)["serving"] == plan.urls["serving"]
        with pytest.raises(StartError, match="already runs on"):
            Supervisor(plan, Terminal()).start()
    assert running_stack(tmp_path) == {}


def test_the_command_of_one_service_loads_nothing_of_another() -> None:
    code = """
import sys, importlib
import services.__main__
importlib.import_module("services.ingestion.app"); importlib.import_module("services.ingestion.settings")
print([name for name in ("mlflow", "sklearn", "deltalake", "sqlalchemy", "scipy") if name in sys.modules])
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.strip() == "[]"
