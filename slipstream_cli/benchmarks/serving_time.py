"""Where the time of a recommendation goes: CPU of the process, and the time of each stage."""

import re
from collections.abc import Sequence
from typing import Final

import httpx

from slipstream_cli.benchmarks.load import closed_loop, in_own_process
from slipstream_cli.benchmarks.measurements import BenchmarkError, Measurement

SECONDS: Final = 4.0
_STAGE: Final = re.compile(
    r'^slipstream_recommendation_stage_seconds_sum\{stage="(\w+)"\} (\S+)$', re.MULTILINE
)
_REQUESTS: Final = re.compile(r"^slipstream_recommendations_total\{.*\} (\S+)$", re.MULTILINE)
_CPU: Final = re.compile(r"^process_cpu_seconds_total (\S+)$", re.MULTILINE)


def run(url: str, requests: Sequence[bytes]) -> list[Measurement]:
    """Measure one request at a time, so that no stage's time holds a wait for another request.

    Args:
        url: A serving service.
        requests: Prepared requests.

    Returns:
        The latency, the process's CPU, and each stage, in microseconds a request.
    """
    cpu, stages, answered = _spent(url)
    load = in_own_process(closed_loop, url, requests, connections=1, seconds=SECONDS, warm_up_s=0.0)
    cpu_after, stages_after, answered_after = _spent(url)
    count = answered_after - answered
    if load.failed or not count:
        raise BenchmarkError(f"{load.failed} requests failed, {count:g} were answered")
    return [
        Measurement(
            name="one request at a time",
            value=1e6 * load.seconds / load.answered,
            unit="us/request",
            note="from the client's side, with the network and the client's own time",
        ),
        Measurement(
            name="of it, CPU of serving",
            value=1e6 * (cpu_after - cpu) / count,
            unit="us/request",
            note="all threads of the process",
        ),
        *(
            Measurement(
                name=f"of it, the stage {stage}",
                value=1e6 * (spent - stages.get(stage, 0.0)) / count,
                unit="us/request",
            )
            for stage, spent in stages_after.items()
            if spent > stages.get(stage, 0.0)
        ),
    ]


def _spent(url: str) -> tuple[float, dict[str, float], float]:
    """The CPU seconds of the process, the seconds of each stage, and the answers so far."""
    text = httpx.get(f"{url}/metrics", timeout=10).text
    return (
        sum(map(float, _CPU.findall(text))),
        {stage: float(seconds) for stage, seconds in _STAGE.findall(text)},
        sum(map(float, _REQUESTS.findall(text))),
    )
