"""`slipstream evaluate`."""

import json
from pathlib import Path

from click.testing import CliRunner

from slipstream_cli.__main__ import cli


def test_evaluate_prints_metrics_with_intervals_and_writes_json(tmp_path: Path) -> None:
    rows = [
        f"{user},{(user + step) % 20},{1_700_000_000_000 + step * 60_000 + user * step**2 * 97}"
        for user in range(60)
        for step in range(8)
    ]
    rows += [f"bot,{step % 20},{1_700_000_000_000 + step * 2_000}" for step in range(120)]
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(rows))
    out = tmp_path / "out.json"
    options = [
        "--protocol",
        "leave-last-out",
        "--k",
        "5",
        "--search-minutes",
        "1",
        "--cold",
        "0.1",
        "--json",
        str(out),
    ]
    answer = CliRunner().invoke(cli, ["evaluate", str(tmp_path / "events.csv"), *options])
    assert answer.exit_code == 0, answer.output
    result = json.loads(out.read_text())
    assert result["queries"] == 61  # the bot is asked about, too
    assert result["data"]["scripted"]["visitors"] == 1
    assert "1 visitor with 120 events (20.0 %) looks scripted, by rate 1" in answer.output
    assert result["metrics"]["hit_rate@5"]["value"] > 0.5  # all visitors walk the same way round
    assert any(line.startswith("hit_rate@5") and "[" in line for line in answer.output.splitlines())
    assert any(
        line.startswith("best part") and "ndcg@5" in line for line in answer.output.splitlines()
    )
    assert "61 questions" in answer.output
    hidden = result["cold"]["hidden, 0 events"]
    assert hidden["recall@50"]["value"] == 0  # nothing is known of an item without attributes
    line = next(line for line in answer.output.splitlines() if line.startswith("hidden, 0 events:"))
    assert "recall@50 0.0000" in line and line.endswith(f"{hidden['queries']} questions")
    assert (
        result["search"] == [] and "trials         0: too few events for a network" in answer.output
    )
