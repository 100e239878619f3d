"""The profile of a recommendation's time: each stage alone, and all processes at full load."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import httpx

from slipstream_cli.benchmarks.load import closed_loop, in_own_process
from slipstream_cli.benchmarks.measurements import BenchmarkError, Measurement

SECONDS: Final = 4.0
_STAGE: Final = re.compile(
    r'^slipstream_recommendation_stage_seconds_sum\{stage="(\w+)"\} (\S+)$', re.MULTILINE
)
_REQUESTS: Final = re.compile(r"^slipstream_recommendations_total\{.*\} (\S+)$", re.MULTILINE)
_STAT: Final = Path("/proc/stat")
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


def at_full_load(
    url: str, services: Mapping[str, str], requests: Sequence[bytes], connections: int
) -> list[Measurement]:
    """Measure which processes have the machine's processors at full load. Needs Linux.

    Args:
        url: A serving service.
        services: The URLs of all services by name, which run on this machine.
        requests: Prepared requests.
        connections: Connections of the closed loop.

    Returns:
        Microseconds of processor time a request: of each service, of all other processes, and
        those that nobody used.
    """
    before, (used, idle), (_, _, answered) = _processor_s(services), _machine_s(), _spent(url)
    load = in_own_process(closed_loop, url, requests, connections=connections, seconds=SECONDS)
    (used_after, idle_after), after = _machine_s(), _processor_s(services)
    count = _spent(url)[2] - answered
    if load.failed or not count:
        raise BenchmarkError(f"{load.failed} requests failed, {count:g} were answered")
    spent = {name: after[name] - seconds for name, seconds in before.items()}
    spent["broker, Redis, load generator and the system"] = used_after - used - sum(spent.values())
    spent["nobody"] = idle_after - idle
    return [
        Measurement(
            name=f"at full load, processors: {name}",
            value=1e6 * seconds / count,
            unit="us/request",
            note="all its threads" if name in services else "",
        )
        for name, seconds in sorted(spent.items(), key=lambda each: -each[1])
    ]


def _processor_s(services: Mapping[str, str]) -> dict[str, float]:
    return {
        name: sum(map(float, _CPU.findall(httpx.get(f"{url}/metrics", timeout=10).text)))
        for name, url in services.items()
    }


def _machine_s() -> tuple[float, float]:
    """The seconds that the processors worked and rested since the start, `proc_stat(5)`."""
    fields = [int(each) for each in _STAT.read_text().partition("\n")[0].split()[1:9]]
    rested = fields[3] + fields[4]
    ticks = os.sysconf("SC_CLK_TCK")
    return (sum(fields) - rested) / ticks, rested / ticks


def _spent(url: str) -> tuple[float, dict[str, float], float]:
    """The CPU seconds of the process, the seconds of each stage, and the answers so far."""
    text = httpx.get(f"{url}/metrics", timeout=10).text
    return (
        sum(map(float, _CPU.findall(text))),
        {stage: float(seconds) for stage, seconds in _STAGE.findall(text)},
        sum(map(float, _REQUESTS.findall(text))),
    )
