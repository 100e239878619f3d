"""`slipstream replay`."""

from pathlib import Path

from click.testing import CliRunner

from slipstream_cli.__main__ import cli


def test_replay_says_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("user_id,item_id\n1,2\n")
    answer = CliRunner().invoke(
        cli, ["replay", str(tmp_path / "events.csv"), "--url", "http://127.0.0.1:1"]
    )
    assert answer.exit_code == 1
    assert "timestamp" in answer.output.splitlines()[-1]
    assert "Traceback" not in answer.output
