"""What a benchmark hands back."""

import json
from pathlib import Path

from bench import measurements
from bench.measurements import Measurement


def test_json_says_on_what_machine_and_servers_it_was_measured(tmp_path: Path) -> None:
    rows = [Measurement(name="batches", value=46_600.123456, unit="events/s")]
    measurements.write_json(tmp_path / "out.json", rows, "Tansu 0.6.0, Valkey 9.1.2", {"cores": 2})
    assert json.loads((tmp_path / "out.json").read_text()) == {
        "machine": {"cores": 2},
        "servers": "Tansu 0.6.0, Valkey 9.1.2",
        "results": [{"name": "batches", "value": 46_600.1235, "unit": "events/s"}],
    }
