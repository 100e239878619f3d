"""A run on another machine: the very command in a process of its own, stopped half-way and started
again, while training stops, too.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from services.training.run.exchange import open_exchange
from services.training.run.worker import TERMINATED
from services.training.settings import TrainingSettings
from slipstream.stores.lake import Lake
from slipstream.stores.object_store import ObjectStore
from tests.buckets import needs_moto, s3_server
from tests.integration.training_service import Settings, ended, running
from tests.unit.training.histories import chain, write
from tests.waiting import until


@pytest.fixture(params=["folder", pytest.param("bucket", marks=needs_moto)])
def exchange(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The settings of an exchange."""
    if request.param == "folder":
        yield {"exchange": str(tmp_path / "exchange")}
        return
    with s3_server("models") as options:
        yield {"exchange": "s3://models/exchange", "exchange_options": options}


@contextmanager
def command(settings: TrainingSettings) -> Iterator["subprocess.Popen[bytes]"]:
    """The command, as another machine starts it; it is killed where the block has not ended it."""
    section = settings.training
    environment = {
        "SLIPSTREAM_NAMESPACE": settings.namespace,
        "SLIPSTREAM_LAKE__URI": settings.lake.uri,
        "SLIPSTREAM_TRAINING__EXCHANGE": section.exchange,
        "SLIPSTREAM_TRAINING__EXCHANGE_OPTIONS": json.dumps(section.exchange_options),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "services", "training-run"],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def told(started: "subprocess.Popen[bytes]") -> tuple[int, dict[str, Any]]:
    """The exit status of a command that ends, and what it logged when it began."""
    output, _ = started.communicate(timeout=240)
    lines = [json.loads(line) for line in output.splitlines()]
    return started.returncode, next(line for line in lines if line["event"] == "run begins")


@pytest.mark.servers("real")
def test_run_that_is_stopped_half_way_is_finished_and_judged(
    make_settings: Settings, exchange: dict[str, Any]
) -> None:
    settings = make_settings(launcher="external", **exchange)
    write(Lake(settings.lake, settings.namespace), chain(900))
    files = ObjectStore(settings.training.exchange, settings.training.exchange_options).below(
        settings.namespace
    )
    with running(settings) as training:
        run_id = training.post("/v1/runs").json()["run_id"]
        until(lambda: open_exchange(settings).open_run() is not None, "no job was handed over")
        with command(settings) as started:
            until(lambda: files.names(f"{run_id}/checkpoints") != [], "no epoch ended", 240)
            started.send_signal(signal.SIGTERM)
            status, begin = told(started)
        assert (status, begin["kept"]) == (TERMINATED, [])
    with running(settings) as training:
        assert training.get(f"/v1/runs/{run_id}").json()["state"] == "running"
        # The next service reads the command's progress at its first look, after it is up.
        until(
            lambda: training.get(f"/v1/runs/{run_id}").json()["epoch"] is not None, "no epoch told"
        )
        with command(settings) as started:
            status, begin = told(started)
        assert status == 0 and begin["kept"][0].startswith("transformer-")
        run = ended(training, run_id)
        assert (run["state"], run["decision"], run["attempt"]) == ("succeeded", "promoted", 1), run
        assert training.get("/v1/aliases/champion").json()["version"] == run_id
        until(lambda: files.names() == [], "the files of the run stayed")
