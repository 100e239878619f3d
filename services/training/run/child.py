"""Process of a run: `python -m services.training.run.child FD`, with a job on standard input.

It writes its progress and its result as JSON lines to the file descriptor. It never outlives the
service: it ends when the service's end of standard input closes, and on Linux when the service dies
in whatever way.
"""

import ctypes
import json
import os
import signal
import sys
import threading
from typing import Any

from services.training.run.dataset import TooLittleDataError
from services.training.run.job import Order, ProgressReporter
from services.training.run.train import train
from services.training.run.usage import Meter
from slipstream.chassis.logging import configure_logging, get_logger, request_id

log = get_logger(__name__)

_PR_SET_PDEATHSIG = 1


def main() -> int:
    """The exit status: 0 after a result or a reason for failing was written."""
    _die_with(os.getppid())
    # Ctrl-C reaches the whole terminal: the service decides what becomes of the run.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    order = Order.model_validate_json(sys.stdin.buffer.readline())
    _die_with(order.parent)
    threading.Thread(target=_die_at_end_of_input, daemon=True).start()
    os.nice(order.job.training.niceness)
    configure_logging(order.log, "training")
    request_id.set(order.request_id)
    meter = Meter()
    with os.fdopen(int(sys.argv[1]), "w", buffering=1) as pipe:

        def send(message: dict[str, Any]) -> None:
            pipe.write(json.dumps(message) + "\n")

        def tell(message: dict[str, Any]) -> None:
            meter.at(message["stage"])
            send({**message, "usage": meter.usage()})

        try:
            result = train(order.job, ProgressReporter(tell))
        except TooLittleDataError as error:
            send({"failed": str(error)})
        except Exception as error:
            log.error("training failed", version=order.job.version, exc_info=error)
            send({"failed": f"{type(error).__name__}: {error}"})
        else:
            send({"trained": result.model_dump(mode="json")})
    return 0


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _die_at_end_of_input() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
