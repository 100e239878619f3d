"""A run's real process: what it tells, how it is stopped, and that it never outlives us."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from services.training.run.job import Job
from services.training.run.launcher import GivenUpError, KilledError, RunFailedError
from services.training.run.process import run_in_child
from slipstream.chassis.logging import carrying
from slipstream.chassis.settings import LakeSettings, LogSettings
from slipstream.recommender.bundle import load_bundle
from slipstream.stores.lake import Lake
from tests.unit.training.histories import chain, write
from tests.unit.training.jobs import job_of

LOG = LogSettings(level="error")


def children() -> set[int]:
    found = set[int]()
    for file in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that ends meanwhile
            found |= set(map(int, file.read_text().split()))
    return found


def is_running(pid: int) -> bool:
    """Whether the process turns; one that has ended, even if unawaited, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def job(lake: Lake, lake_settings: LakeSettings, tmp_path: Path) -> Job:
    write(lake, chain())
    return job_of(tmp_path, lake=lake_settings)


def test_run_in_child_returns_what_it_found(job: Job) -> None:
    messages: list[dict[str, Any]] = []
    trained = run_in_child(job, LOG, on_progress=messages.append, give_up=lambda: False)
    assert trained.metrics["queries"] > 10
    assert load_bundle(job.output).version == "v1"
    assert messages[0]["stage"] == "reading the lake"


def test_run_in_child_too_little_data_is_a_reason(
    lake_settings: LakeSettings, tmp_path: Path
) -> None:
    with pytest.raises(RunFailedError, match="the lake holds no interactions yet"):
        run_in_child(
            job_of(tmp_path, lake=lake_settings),
            LOG,
            on_progress=lambda _: None,
            give_up=lambda: False,
        )


def test_run_in_child_given_up_leaves_no_process(job: Job) -> None:
    before, seen = children(), set[int]()

    def give_up() -> bool:
        seen.update(children() - before)
        return bool(seen)

    with pytest.raises(GivenUpError):
        run_in_child(job, LOG, on_progress=lambda _: None, give_up=give_up)
    assert seen
    assert not seen & children()
    assert not job.output.exists()


def test_run_in_child_killed_says_so(job: Job) -> None:
    before = children()

    def kill(_message: dict[str, Any]) -> None:
        for pid in children() - before:
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(KilledError, match="signal 9"):
        run_in_child(job, LOG, on_progress=kill, give_up=lambda: False)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_child_dies_with_a_killed_service(job: Job, tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(job.model_dump_json())
    service = textwrap.dedent(
        f"""
        import os, signal, time
        from pathlib import Path
        from services.training.run.process import run_in_child
        from services.training.run.job import Job
        from slipstream.chassis.settings import LogSettings

        def print_children(message):
            for file in Path(f"/proc/{{os.getpid()}}/task").glob("*/children"):
                for pid in file.read_text().split():
                    os.kill(int(pid), signal.SIGSTOP)  # it must not end by itself
                    print(pid, flush=True)
            time.sleep(60)

        run_in_child(
            Job.model_validate_json(Path({str(tmp_path / "job.json")!r}).read_text()),
            LogSettings(), on_progress=print_children, give_up=lambda: False,
        )
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", service], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_running(child)
        parent.kill()
        deadline = time.monotonic() + 60
        while is_running(child):
            assert time.monotonic() < deadline, "the training process outlived its service"
            time.sleep(0.02)


def test_run_in_child_logs_with_the_request_id_of_the_run(
    job: Job, capfd: pytest.CaptureFixture[str]
) -> None:
    for entry in Path(job.lake.uri).rglob("_delta_log/*.json"):
        entry.write_text("not what it was")
    with carrying("r-1"), pytest.raises(RunFailedError):
        run_in_child(job, LOG, on_progress=lambda _: None, give_up=lambda: False)
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(line["event"], line["request_id"]) for line in lines] == [("training failed", "r-1")]
