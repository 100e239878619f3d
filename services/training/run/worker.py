"""Work of `python -m services training-run`: one run, on whatever machine it is started.

It knows the lake and the exchange and nothing else. Killed at any moment, it goes on after its last
checkpoint where it is started again. On the machine of the service, it ends with the service.
"""

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from services.training.run.dataset import TooLittleDataError
from services.training.run.device import DeviceError, choose_device
from services.training.run.exchange import RunFiles, exchange_options, open_exchange
from services.training.run.job import FACTS, ProgressReporter
from services.training.run.launcher import until_answered
from services.training.run.train import train
from services.training.run.usage import Meter
from services.training.settings import TrainingSettings
from slipstream.chassis.logging import configure_logging, get_logger, request_id
from slipstream.chassis.settings import LakeSettings
from slipstream.stores.object_store import ObjectStore, ObjectStoreUnavailableError

log = get_logger(__name__)

# Exit statuses. Where a run has failed for a reason of its own, another start can't help: the Job's
# `podFailurePolicy` knows this status. Any other one calls for another start.
FAILED: Final = 3
TERMINATED: Final = 128 + signal.SIGTERM

# Seconds between looks for new progress and checkpoints.
CARRY_S: Final = 2.0


def main(settings: TrainingSettings, uri: str | None) -> int:
    """Train one job, and leave its result in the exchange; returns the exit status.

    SIGTERM ends the process after its last checkpoint was sent.

    Args:
        settings: Settings; of the lake, the exchange and the log only.
        uri: Where the run's files are; None takes the oldest run that waits.
    """
    configure_logging(settings.log, "training")
    exchange = open_exchange(settings)
    files = RunFiles(ObjectStore(uri, exchange_options(settings))) if uri else exchange.open_run()
    if files is None:
        log.info("no run waits")
        return 0
    with tempfile.TemporaryDirectory(prefix="run-", ignore_cleanup_errors=True) as place:
        carrier = Carrier(files)
        _end_at_sigterm(carrier.carry)
        return work(files, Path(place), carrier, settings.lake)


def work(files: RunFiles, place: Path, carrier: "Carrier", lake: LakeSettings) -> int:
    """As `main`, without signals, in the empty directory `place`."""
    if (ended := files.result()) is not None:  # the result was written, and then we were killed
        return FAILED if ended.trained is None else 0
    handed = files.handed()
    if handed is None:
        log.error("there is no job", at=files.uri)
        return FAILED
    request_id.set(handed.request_id)
    try:
        choose_device(handed.job.training.device, handed.job.training.processes)
    except DeviceError as error:
        return _failed(files, carrier, handed.job.version, str(error))
    if handed.local:
        threading.Thread(target=_end_with_service, daemon=True).start()
        job = handed.job.model_copy(update={"lake": lake})
    else:
        job = files.receive(handed.job, place, lake)
        carrier.checkpoints = job.checkpoints
    log.info("run begins", run_id=job.version, kept=[p.name for p in job.checkpoints.iterdir()])
    if job.lake_version is not None:  # or a start that is killed before it has read would lose it
        carrier.know(lake_version=job.lake_version, catalog_version=job.catalog_version)
    try:
        with carrier:
            result = train(job, ProgressReporter(carrier.tell))
    except TooLittleDataError as error:
        return _failed(files, carrier, job.version, str(error))
    except Exception as error:
        log.error("training failed", version=job.version, exc_info=error)
        return _failed(files, carrier, job.version, f"{type(error).__name__}: {error}")
    # What took hours is not thrown away because the store does not answer for a while.
    until_answered(carrier.carry, threading.Event())
    output = None if handed.local else job.output
    until_answered(lambda: files.send_result(result, output), threading.Event())
    log.info("run ended", run_id=job.version)
    return 0


class Carrier:
    """Thread that carries progress and checkpoints to the exchange during training.

    While the exchange is unavailable, the run goes on, and its checkpoints follow later. It ends
    the process once the job is gone: the run was cancelled.

    Attributes:
        checkpoints: Directory of the checkpoints; None on the service's machine, where they stay.
            Messages are then sent at once, so that none is lost by a kill.
    """

    checkpoints: Path | None = None

    def __init__(self, files: RunFiles, *, end: Callable[[int], None] = os._exit) -> None:
        self._files, self._end = files, end
        self._meter = Meter((files.progress() or {}).get("usage", ()))
        self._message: dict[str, Any] = {}
        self._sent: dict[str, Any] = {}
        self._facts: dict[str, Any] = {}
        self._carried: dict[str, tuple[int, int]] | None = None
        self._carrying = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._carried = self._found()
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def know(self, **facts: Any) -> None:
        """Take facts that all messages are to have."""
        self._facts |= facts

    def tell(self, message: dict[str, Any]) -> None:
        """Take a message. A later one overtakes it, and keeps its facts about the lake."""
        self._meter.at(message["stage"])
        self._facts |= {name: value for name, value in message.items() if name in FACTS}
        self._message = {**self._facts, **message}
        if self.checkpoints is None:
            self._tried(self.carry)

    def carry(self) -> None:
        """Send what is new, once training has begun.

        The versions of the lake go before the checkpoints made on them.
        """
        with self._carrying:
            if self._carried is None:
                return
            message = self._message and {**self._message, "usage": self._meter.usage()}
            if message != self._sent:
                self._files.send_progress(message)
                self._sent = message
            for name, version in self._found().items():
                if self.checkpoints is not None and self._carried.get(name) != version:
                    self._files.send_checkpoint(self.checkpoints / name)
                    self._carried[name] = version

    def _run(self) -> None:
        while not self._ended.wait(CARRY_S):
            self._tried(self._look)

    def _look(self) -> None:
        self.carry()
        if self._files.handed() is None:
            log.warning("the job is gone, so the run ends")
            self._end(FAILED)

    def _tried(self, call: Callable[[], None]) -> None:
        try:
            call()
        except ObjectStoreUnavailableError as error:
            log.warning("the exchange does not answer", reason=str(error))

    def _found(self) -> dict[str, tuple[int, int]]:
        """Whole files of the checkpoints, with what changes when one is replaced."""
        return {
            file.name: (file.stat().st_mtime_ns, file.stat().st_ino)
            for file in (self.checkpoints.iterdir() if self.checkpoints else ())
            if file.suffix != ".unfinished"
        }


def _failed(files: RunFiles, carrier: Carrier, run_id: str, reason: str) -> int:
    log.warning("run failed", run_id=run_id, reason=reason)
    until_answered(carrier.carry, threading.Event())
    until_answered(lambda: files.send_failure(reason), threading.Event())
    return FAILED


def _end_with_service() -> None:
    """End the process at the end of its standard input, which the service holds open."""
    sys.stdin.buffer.read()
    os._exit(TERMINATED)


def _end_at_sigterm(last: Callable[[], None]) -> None:
    """End the process at SIGTERM, after a last call, whatever its main thread computes.

    For process 1 of a container the system ignores a signal without a handler, and a handler of
    Python's would wait for the end of a kernel. So a thread reads what the interpreter writes at
    once. To block the signal and wait for it is no way: multiprocessing unblocks it with its first
    process.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def wait() -> None:
        while os.read(reading, 1) != bytes([signal.SIGTERM]):
            pass
        try:
            last()
        except ObjectStoreUnavailableError as error:
            log.warning("the last checkpoint could not be sent", reason=str(error))
        log.warning("run is interrupted")
        sys.stdout.flush()
        os._exit(TERMINATED)

    threading.Thread(target=wait, daemon=True).start()
