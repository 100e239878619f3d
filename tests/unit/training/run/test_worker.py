"""The command's work on real data: done, killed half-way, started again, failed, called off."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.training.run import worker
from services.training.run.exchange import Exchange, RunFiles
from services.training.run.job import Job, ProgressReporter, TrainingResult
from services.training.run.train import train
from services.training.run.worker import FAILED, TERMINATED, Carrier, work
from services.training.settings import TrainingSection
from slipstream.chassis.settings import LakeSettings
from slipstream.models.transformer_fit import Checkpoint
from slipstream.recommender.bundle import load_bundle
from slipstream.stores.lake import INTERACTIONS, Lake
from slipstream.stores.object_store import ObjectStore
from tests.unit.training.histories import START_MS, chain, events, write
from tests.unit.training.jobs import job_of

Start = Callable[..., int]


class EvictedError(BaseException):
    """The machine is taken away, at a moment of the test's choice."""


class Epochs:
    """Writes of checkpoints; after `last` of them, the machine goes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.written, self.last, self.carry = list[int](), 0, lambda: None
        write = Checkpoint.write

        def counted(checkpoint: Checkpoint, state: dict[str, Any]) -> None:
            write(checkpoint, state)
            self.written.append(state["epoch"])
            if len(self.written) == self.last:
                self.carry()
                raise EvictedError

        monkeypatch.setattr(Checkpoint, "write", counted)


@pytest.fixture
def files(tmp_path: Path) -> RunFiles:
    return Exchange(ObjectStore(str(tmp_path / "exchange"))).of("v1")


@pytest.fixture
def job(lake_settings: LakeSettings, tmp_path: Path) -> Job:
    (tmp_path / "kept").mkdir()
    return job_of(
        tmp_path, lake=lake_settings, output=tmp_path / "whole", checkpoints=tmp_path / "kept"
    )


@pytest.fixture
def start(files: RunFiles, lake_settings: LakeSettings, tmp_path: Path) -> Start:
    """Starts the work on another machine each time; returns the exit status."""
    starts = iter(range(9))

    def begin(epochs: Epochs | None = None) -> int:
        place = tmp_path / f"machine-{next(starts)}"
        place.mkdir()
        carrier = Carrier(files)
        if epochs is not None:
            epochs.carry = carrier.carry
        return work(files, place, carrier, lake_settings)

    return begin


def trained(files: RunFiles) -> TrainingResult:
    result = files.result()
    assert result is not None
    assert result.trained is not None, result.failed
    return result.trained


def arrays(bundle: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in bundle.glob("*.npy")}


def test_run_that_is_evicted_goes_on_after_its_last_epoch_and_ends_as_if_it_had_not_been(
    lake: Lake,
    job: Job,
    files: RunFiles,
    start: Start,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("slipstream.recommender.fit.FEWEST_EVENTS", 100)
    write(lake, chain())
    epochs = Epochs(monkeypatch)
    alone = job.model_copy(update={"checkpoints": tmp_path / "of the whole"})
    whole = train(alone, ProgressReporter(lambda _: None))
    every_epoch = epochs.written
    assert len(every_epoch) > 2

    files.hand_over(job, "")
    epochs.written, epochs.last = [], 2
    with pytest.raises(EvictedError):
        start(epochs)
    assert files.result() is None
    lake.append(INTERACTIONS, events([("late", "i1", "view", START_MS)], 900), {})
    epochs.last = 0

    def evicted_while_reading(_job: Job, report: ProgressReporter) -> TrainingResult:
        report.stage("reading the lake", 0.0, 0.02)
        epochs.carry()
        raise EvictedError

    with monkeypatch.context() as patch, pytest.raises(EvictedError):
        patch.setattr(worker, "train", evicted_while_reading)
        start(epochs)
    assert start(epochs) == 0
    assert epochs.written == every_epoch  # none was trained twice
    again = trained(files)
    assert (again.lake_version, again.data_sha256) == (whole.lake_version, whole.data_sha256)
    assert {n: v for n, v in again.metrics.items() if "latency" not in n} == {
        n: v for n, v in whole.metrics.items() if "latency" not in n
    }
    result = files.result()
    assert result is not None
    files.collect(result, tmp_path / "collected")
    assert load_bundle(tmp_path / "collected").version == "v1"
    assert arrays(tmp_path / "collected") == arrays(tmp_path / "whole")
    assert start() == 0  # killed just after its result, it has nothing to do
    told = files.progress()
    assert told is not None
    assert told["lake_version"] == whole.lake_version


def test_run_that_would_fail_again_says_so(job: Job, files: RunFiles, start: Start) -> None:
    files.hand_over(job, "")
    assert start() == FAILED
    result = files.result()
    assert result is not None
    assert "the lake holds no interactions yet" in result.failed
    assert start() == FAILED


def test_gpu_that_torch_can_not_see_ends_the_run_before_it_reads_anything(
    job: Job, files: RunFiles, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    section = TrainingSection(device="gpu")
    files.hand_over(job.model_copy(update={"training": section}), "")
    assert start() == FAILED
    result = files.result()
    assert result is not None
    assert "SLIPSTREAM_TRAINING__DEVICE=gpu, and torch" in result.failed
    assert files.progress() is None


def test_start_without_a_job_fails(start: Start) -> None:
    assert start() == FAILED


def test_run_ends_once_its_job_is_called_off(
    job: Job, files: RunFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "CARRY_S", 0.005)
    files.hand_over(job, "")
    ended, statuses = threading.Event(), list[int]()

    def end(status: int) -> None:
        statuses.append(status)
        ended.set()

    with Carrier(files, end=end):
        assert not statuses
        files.drop()
        assert ended.wait(60)
    assert statuses[0] == FAILED


def test_carrier_sends_what_is_new_and_no_unfinished_file(
    job: Job, files: RunFiles, tmp_path: Path
) -> None:
    carrier = Carrier(files)
    carrier.checkpoints = job.checkpoints
    carrier.carry()  # before training begins there is nothing
    with carrier:
        carrier.tell({"stage": "reading", "lake_version": 3})
        carrier.tell({"stage": "fitting"})
        (job.checkpoints / "network.pt").write_text("epoch 1")
        (job.checkpoints / "network.unfinished").write_text("epo")
        carrier.carry()
    told = files.progress() or {}
    assert [each["step"] for each in told.pop("usage")] == ["test"]
    assert told == {"stage": "fitting", "lake_version": 3}
    files.fetch_checkpoints(tmp_path / "fetched")
    assert [file.name for file in (tmp_path / "fetched").iterdir()] == ["network.pt"]


def test_data_that_are_refused_end_the_run_in_its_step(
    lake: Lake, job: Job, files: RunFiles, start: Start
) -> None:
    rows = [("bot", f"i{n % 9}", "view", START_MS + 3_600_000 * n) for n in range(95)]
    write(lake, events(rows))
    settings = TrainingSection(exclude_scripted=False)
    files.hand_over(job.model_copy(update={"training": settings}), "")
    assert start() == FAILED
    result, told = files.result(), files.progress()
    assert result is not None and told is not None
    assert result.failed.startswith("the data are refused (heavy_visitor): visitor bot has 100 %")
    assert told["stage"] == "checking the data"
    assert [each["step"] for each in told["usage"]] == ["test", "snapshot", "validate"]
    assert told["outputs"]["snapshot"]["lake_version"] == lake.version(INTERACTIONS)


# Another process of multiprocessing has been started, and the main thread computes.
COMPUTES = """
import multiprocessing.resource_tracker, signal, threading
from services.training.run.worker import _end_at_sigterm
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
_end_at_sigterm(lambda: print("carried", flush=True))
multiprocessing.resource_tracker.ensure_running()
print("computes", flush=True)
threading.Event().wait(60)
"""


def test_sigterm_ends_the_process_after_its_last_call_whatever_was_started_meanwhile() -> None:
    command = [sys.executable, "-c", COMPUTES]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "computes\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "carried\n"
        assert process.wait(30) == TERMINATED
